"""Compare the figures in README and docs with the data under `results/`, or write them anew.

    python docs/figures.py            # compare; exit code 1 and a line for each figure that differs
    python docs/figures.py --write    # write tables and figures from the data

A comment in Markdown says where a figure comes from. Its expression is Python with the
words of the modules `results`, `tables`, `robots`, `trained`, `claims` and `scaling` beside this one:

    0.88 ± 0.02<!-- is score("depth", "success_any", depth=16) -->     the two numbers before the comment
    every seed is ahead<!-- holds (difference(...) > 0).all() -->       a sentence that must be true
    <!-- table [[str(depth), pm(score(...))] for depth in (4, 16)] -->  the body of the table below, cell by cell
    0.99<!-- given -->                                                  a setting, or the paper's: nothing to compare

Numbers before `is` are compared as they are rounded: 54 is right for 53.8, 0.88 for 0.8797.
"""

import argparse
import functools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import claims  # the modules beside this one
import results
import robots
import scaling
import tables
import trained

PAGES = ("README.md", "docs/**/*.md")

COMMENT = re.compile(r"<!--\s*(is|holds|table|given)\b(.*?)-->", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?")
TABLE = re.compile(r"\s*\n(\|[^\n]*\n)(\|[-| :]*\n)((?:\|[^\n]*\n)*)")
ERROR = "{page}:{line}: {what}"


def pages() -> list[Path]:
    """Return README and all pages of the docs."""
    return sorted(path for pattern in PAGES for path in results.ROOT.glob(pattern))


def check(text: str) -> list[tuple[int, str]]:
    """Return the figures of a page that its data do not give: the line, and what is wrong."""
    return [(text[:place].count("\n") + 1, problem) for place, problem, _ in _visit(text) if problem]


def covered(text: str) -> list[tuple[int, int, str]]:
    """Return the parts of a page that references cover: from, to, and the kind of reference."""
    found, start = [], 0
    for comment in COMMENT.finditer(text):
        kind, expression = comment.group(1), " ".join(comment.group(2).split())
        if kind in ("is", "given"):
            count = np.atleast_1d(_flat(_evaluate(expression))).size if kind == "is" else 1
            numbers = list(NUMBER.finditer(text, start, comment.start()))[-count:]
            found.append((numbers[0].start(), comment.start(), kind))
        elif kind == "table" and (table := TABLE.match(text, comment.end())):
            found.append((*table.span(3), kind))
        start = comment.end()
    return found


def rewrite(text: str) -> str:
    """Return a page with its tables and figures as its data give them."""
    edits = [edit for _, _, edit in _visit(text) if edit]
    for start, end, new in reversed(edits):
        text = text[:start] + new + text[end:]
    return text


Edit = tuple[int, int, str]


def _visit(text: str) -> Iterator[tuple[int, str, Edit | None]]:
    """Yield for each comment its place, what is wrong there (empty if nothing is), and an edit that makes it right."""
    start = 0
    for found in COMMENT.finditer(text):
        kind, expression = found.group(1), " ".join(found.group(2).split())
        try:
            if kind == "holds":
                claims = np.atleast_1d(_evaluate(expression))
                problem = "" if claims.size and claims.all() else f"does not hold: {expression}"
                yield found.start(), problem, None
            elif kind == "is":
                yield found.start(), *_numbers(text, start, found.start(), np.atleast_1d(_flat(_evaluate(expression))))
            elif kind == "table":
                yield found.start(), *_table(text, found.end(), _evaluate(expression))
        except Exception as error:
            yield found.start(), f"{expression}: {type(error).__name__}: {error}", None
        start = found.end()


@functools.cache  # a page says the same of several numbers, and the tests change a page digit by digit
def _evaluate(expression: str) -> Any:
    words = {
        name: value
        for module in (results, tables, robots, claims, trained, scaling)
        for name, value in vars(module).items()
        if not name.startswith("_")
    }
    return eval(expression, words)


def _flat(value: Any) -> list[float]:
    """Return the numbers of a value; an estimate is two, of which an unknown error is left out."""
    if isinstance(value, tuple | list | np.ndarray):
        known = [each for each in value if not (isinstance(value, results.Estimate) and np.isnan(each))]
        return [number for each in known for number in _flat(each)]
    return [float(value)]


def _numbers(text: str, start: int, end: int, values: np.ndarray) -> tuple[str, Edit | None]:
    """Compare the last numbers before a place with values."""
    shown = list(NUMBER.finditer(text, start, end))[-len(values) :]
    if len(shown) < len(values):
        return f"{len(values)} numbers belong before the comment, and there are {len(shown)}", None
    new = text[shown[0].start() : end]
    right = True
    for match, value in reversed(list(zip(shown, values, strict=True))):
        place = match.start() - shown[0].start()
        written = _like(match.group(), float(value))
        right &= written == match.group()
        new = new[:place] + written + new[place + len(match.group()) :]
    if right:
        return "", None
    return f"{text[shown[0].start() : end]!r} should be {new!r}", (shown[0].start(), end, new)


def _like(shown: str, value: float) -> str:
    """Return a value rounded as a number in the text is: decimals, thousands, trailing zeros of whole numbers."""
    if "e" in shown:
        digits = len(shown.partition("e")[0].partition(".")[2])
        return f"{value:.{digits}e}"
    decimals = len(shown.partition(".")[2])
    if not decimals:
        whole = shown.lstrip("+-").replace(",", "")
        zeros = len(whole) - len(whole.rstrip("0"))
        # The text may round to tens, hundreds, ... but keeps three digits at least.
        zeros = min(zeros, max(len(whole) - 3, 0))
        value = round(value / 10.0**zeros) * 10.0**zeros
    sign = "+" if shown.startswith("+") and value >= 0 else ""
    comma = "," if "," in shown or len(shown.lstrip("+-").partition(".")[0]) > 4 else ""
    return sign + f"{value:{comma}.{decimals}f}"


def _table(text: str, start: int, body: list[list[Any]]) -> tuple[str, Edit | None]:
    """Compare the body of the table after a place, cell by cell."""
    found = TABLE.match(text, start)
    if found is None:
        return "no table follows", None
    written = "".join("| " + " | ".join(str(cell) for cell in row) + " |\n" for row in body)
    shown = found.group(3)
    if written == shown:
        return "", None
    lines = zip(shown.splitlines(), written.splitlines(), strict=False)
    differs = next((pair for pair in lines if pair[0] != pair[1]), None)
    what = f"{differs[0]!r} should be {differs[1]!r}" if differs else "it has another number of rows"
    return f"table: {what}", (found.start(3), found.end(3), written)


def main(log: Callable[[str], object] = print) -> int:
    """Compare or write all pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write tables and figures from the data")
    parser.add_argument("files", nargs="*", type=Path, help="pages; README and docs if none is given")
    options = parser.parse_args()
    problems = 0
    for page in options.files or pages():
        text = page.read_text()
        if options.write and (new := rewrite(text)) != text:
            page.write_text(text := new)
        for line, what in check(text):
            problems += 1
            log(ERROR.format(page=page, line=line, what=what))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
