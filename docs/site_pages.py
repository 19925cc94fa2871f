"""What the site changes in pages: notes to the tests go, files of the repository become pages or downloads.

Pages of `docs/` are written for a reader of the repository, too. So their links name files, and their figures carry
comments that say where they come from (`figures.py`).
"""

import os
import re
from pathlib import Path
from typing import Any

from docutils import nodes

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

OUTSIDE = {"changelog": "CHANGELOG.md", "contributing": "CONTRIBUTING.md"}
"""Pages that are a file at the top of the repository."""

COMMENT = re.compile(r"(?m)^<!--(?:(?!-->).)*-->\n|<!--(?:(?!-->).)*-->", re.DOTALL)
FENCED = re.compile(r"^(`{3,}|~{3,}).*?^\1[ ]*$", re.DOTALL | re.MULTILINE)
PATTERN = re.compile(r"^\w+\*\n", re.MULTILINE)
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)\)")


def connect(app: Any) -> None:
    """Let pages pass through `site_text` when Sphinx reads them."""
    app.connect("source-read", _read)
    app.connect("doctree-read", _short_names)


def _read(app: Any, name: str, source: list[str]) -> None:
    file = ROOT / OUTSIDE[name] if name in OUTSIDE else Path(app.env.doc2path(name))
    text = file.read_text() if name in OUTSIDE else source[0]
    if name == app.config.root_doc:  # Sphinx warns of patterns in the navigation that match no page yet
        text = PATTERN.sub(lambda line: line.group() if any(DOCS.glob(f"{line.group().strip()}.md")) else "", text)
    source[0] = site_text(text, file, DOCS / f"{name}.md")
    if name in OUTSIDE:
        app.env.note_dependency(str(file))


def site_text(text: str, file: Path, page: Path) -> str:
    """Return the text of a page of the site.

    Args:
        text: Markdown as it is in the repository.
        file: where it stands there.
        page: where Sphinx takes it to stand.
    """
    text = COMMENT.sub("", text)
    parts, end = [], 0
    for code in FENCED.finditer(text):
        parts += [LINK.sub(lambda link: _link(link, file, page), text[end : code.start()]), code.group()]
        end = code.end()
    return "".join([*parts, LINK.sub(lambda link: _link(link, file, page), text[end:])])


def _link(link: re.Match[str], file: Path, page: Path) -> str:
    text, target = link["text"], link["target"]
    path, mark, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", target):
        return link.group()
    found = Path(os.path.normpath(file.parent / path))
    if not found.exists():
        return link.group()  # Sphinx says so
    if link["picture"]:
        return f"![{text}]({_relative(found, page)})"
    if name := next((name for name, own in OUTSIDE.items() if ROOT / own == found), ""):
        return f"[{text}]({_relative(DOCS / f'{name}.md', page)}{mark}{anchor})"
    if found.suffix == ".md" and found.is_relative_to(DOCS):
        return f"[{text}]({_relative(found, page)}{mark}{anchor})"
    if found.is_dir() or found.suffix == ".md":
        return text if text.startswith("`") else f"{text} (`{found.relative_to(ROOT)}` in the repository)"
    return f"{{download}}`{text.strip('`')} <{_relative(found, page)}>`"


def _relative(path: Path, page: Path) -> str:
    return os.path.relpath(path, page.parent)


def _short_names(app: Any, tree: nodes.document) -> None:
    """Write `Array` in signatures, where Python says which private module of JAX it comes from."""
    for text in list(tree.findall(nodes.Text)):
        if "jaxlib._jax." in text:
            text.parent.replace(text, nodes.Text(text.replace("jaxlib._jax.", "")))
