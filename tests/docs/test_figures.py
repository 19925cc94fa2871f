"""README and docs say what the data say: every table and every figure with a reference, to the last digit."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"


@pytest.fixture(scope="module")
def figures():
    spec = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "figures.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["figures"] = module
    spec.loader.exec_module(module)
    return module


def pages():
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page):
    return str(page.relative_to(ROOT))


def changed(digit):
    return str((int(digit) + 5) % 10)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_figure_is_that_of_the_data(figures, page):
    assert figures.check(page.read_text()) == []


STUDIES = sorted(name_of(page) for page in (ROOT / "docs" / "studies").glob("*.md") if page.name != "README.md")


@pytest.mark.parametrize("page", ["README.md", "docs/agents.md", "docs/performance.md", *STUDIES])
def test_pages_with_measurements_refer_to_data(figures, page):
    assert figures.COMMENT.search((ROOT / page).read_text())


@pytest.mark.parametrize("page", ["README.md", "docs/studies/depth.md", "docs/studies/growth.md"])
def test_a_single_changed_digit_is_found(figures, page):
    """Each digit of each table, and of each number that a reference covers, one after the other."""
    text = (ROOT / page).read_text()
    tried = 0
    for place in covered_digits(figures, text):
        other = text[:place] + changed(text[place]) + text[place + 1 :]
        assert figures.check(other), f"{text[place - 30 : place + 10]!r} may be {changed(text[place])}"
        tried += 1
    assert tried > 30


def covered_digits(figures, text):
    """Return the places of the digits that data give."""
    spans = [(start, end) for start, end, kind in figures.covered(text) if kind != "given"]
    return [place for start, end in spans for place in range(start, end) if text[place].isdigit()]


@pytest.mark.parametrize(
    ("shown", "value", "right"),
    [
        ("54", 53.8, True),
        ("54", 54.6, False),
        ("0.88", 0.8797, True),
        ("0.87", 0.8797, False),
        ("10,300", 10_287.0, True),
        ("10,400", 10_287.0, False),
        ("10,000", 10_287.0, False),
        ("2.9e-06", 2.861e-06, True),
        ("-3.9", -3.86, True),
        ("3.9", -3.86, False),
    ],
)
def test_a_number_is_right_if_it_is_the_value_as_it_is_rounded(figures, shown, value, right):
    text = f"It took {shown}<!-- is {value!r} --> of them."
    assert (figures.check(text) == []) is right
    assert figures.check(figures.rewrite(text)) == []


def test_sentences_and_tables_are_held_to_the_data(figures):
    assert figures.check("so it is<!-- holds 1 < 2 -->.") == []
    for false in ("2 < 1", "[1 < 2, 2 < 1]", "[]"):  # of nothing, nothing holds
        assert figures.check(f"so it is<!-- holds {false} -->.")[0][1].startswith("does not hold")
    assert "no_such_name" in figures.check("3<!-- is no_such_name -->")[0][1]
    table = '<!-- table [["a", "1 ± 2"]] -->\n| x | y |\n|---|---|\n| a | 1 ± 3 |\n'
    assert "should be '| a | 1 ± 2 |'" in figures.check(table)[0][1]
    assert figures.rewrite(table).endswith("| a | 1 ± 2 |\n")


DECIMAL = re.compile(r"(?<![\w.,=])-?\d+\.\d+(?![\w.])|\d ± \d")
NOT_PROSE = re.compile(r"<!--.*?-->|```.*?```|`[^`]*`|\]\([^()]*\)", re.DOTALL)


PAPERS = re.compile(r"\n## What the paper says\n.*?(?=\n## |\Z)", re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "docs/performance.md", "docs/agents.md", *STUDIES])
def test_no_decimal_is_without_a_reference(figures, page):
    """On pages with measurements: outside of code, links, and what the paper says."""
    text = (ROOT / page).read_text()
    aside = [
        *(span[:2] for span in figures.covered(text)),
        *(match.span() for match in [*NOT_PROSE.finditer(text), *PAPERS.finditer(text)]),
    ]
    found = [
        text[max(number.start() - 50, 0) : number.end()]
        for number in DECIMAL.finditer(text)
        if not any(first <= number.start() < last for first, last in aside)
    ]
    assert found == []


def test_results_are_listed_with_their_commands():
    """Every folder of results has a line in results/README.md, whose last cell holds a command."""
    lines = [line for line in (RESULTS / "README.md").read_text().splitlines() if line.startswith("| `")]
    listed = {name.rstrip("/"): line for line in lines for name in re.findall(r"`([\w/.-]+)`", line.split("|")[1])}
    for folder in {path.parent for path in RESULTS.rglob("*") if path.suffix in (".csv", ".json")}:
        name = str(folder.relative_to(RESULTS))
        own = [line for key, line in listed.items() if key == name or key.startswith(f"{name}/")]
        assert own, f"results/{name} is not in results/README.md"
        assert all("kilolayer " in line.split("|")[-2] or "command in" in line.split("|")[-2] for line in own), own
