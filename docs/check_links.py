"""Check that every link of the built site to a page, a file or a heading of its own leads somewhere.

python docs/check_links.py build/docs    # exit code 1 and a line for each link that does not
"""

import functools
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """Collects the links and the names of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the links and the name of a tag."""
        found = dict(attrs)
        self.links += [found[key] or "" for key in ("href", "src") if key in found]
        self.names |= {found[key] or "" for key in ("id", "name") if key in found}


@functools.cache
def _read(file: Path) -> _Page:
    page = _Page()
    page.feed(file.read_text(encoding="utf-8"))
    return page


def broken(site: Path) -> list[str]:
    """Return a line for each link within the site that leads nowhere."""
    found = []
    for file in sorted(site.resolve().rglob("*.html")):
        for link in _read(file).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not target.exists():
                found.append(f"{file.relative_to(site.resolve())}: {link}: there is no such file")
            elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in _read(target).names:
                found.append(f"{file.relative_to(site.resolve())}: {link}: there is no such heading")
    return found


if __name__ == "__main__":
    problems = broken(Path(sys.argv[1]))
    print("\n".join(problems), end="\n" if problems else "")
    sys.exit(1 if problems else 0)
