"""README and docs say what the data say: every table and every figure with a reference, to the last digit."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from kilolayer.studies import STUDIES

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


STUDY_PAGES = sorted(
    name_of(page)
    for page in (ROOT / "docs" / "studies").glob("*.md")
    if page.name != "README.md" and "\nNothing yet: " not in page.read_text()
)


MEASURED = [
    "README.md",
    "docs/agents.md",
    "docs/concepts/depth.md",
    "docs/concepts/survival.md",
    "docs/guides/robot_tasks.md",
    "docs/guides/when_depth_pays.md",
    "docs/performance.md",
    "docs/scaling.md",
    "docs/start/first_run.md",
    "docs/start/paper_task.md",
    "docs/trained.md",
    "docs/your_robot.md",
    "docs/studies/README.md",
    *STUDY_PAGES,
]
"""Pages that say what was measured."""


@pytest.mark.parametrize("page", MEASURED)
def test_pages_with_measurements_refer_to_data(figures, page):
    assert figures.COMMENT.search((ROOT / page).read_text())


@pytest.mark.parametrize("page", MEASURED)
def test_a_single_changed_digit_is_found(figures, page):
    """Each digit of each table, and of each number that a reference covers, one after the other."""
    text = (ROOT / page).read_text()
    places = covered_digits(figures, text)
    for place in places:
        other = text[:place] + changed(text[place]) + text[place + 1 :]
        assert figures.check(other), f"{text[place - 30 : place + 10]!r} may be {changed(text[place])}"
    assert places


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


DECIMAL = re.compile(r"(?<![\w.,=])-?\d+\.\d+(?!\w|\.\d)|\d ± \d")
NOT_PROSE = re.compile(r"<!--.*?-->|```.*?```|`[^`]*`|\]\([^()]*\)", re.DOTALL)


PAPERS = re.compile(r"\n## What the paper says\n.*?(?=\n## |\Z)", re.DOTALL)


@pytest.mark.parametrize("page", MEASURED)
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


RECORDED = ("command", "commit", "cpu", "memory_bytes", "date")
"""What results record of how they were measured."""


def listed_results():
    """Return the cells of each line of results/README.md by the folders or files that it names."""
    lines = [line for line in (RESULTS / "README.md").read_text().splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name.rstrip("/"): own for own in cells for name in re.findall(r"`([\w/-][\w/.-]*)`", own[0])}


def test_results_are_listed_with_their_commands():
    """Every folder of results, or each of its files, has a line in results/README.md with a command."""
    listed = listed_results()
    for path in (path for path in RESULTS.rglob("*") if path.suffix in (".csv", ".json")):
        name = str(path.relative_to(RESULTS))
        own = listed.get(name) or listed.get(str(path.parent.relative_to(RESULTS)))
        assert own, f"results/{name} is not in results/README.md"
        assert "kilolayer " in own[2], own
    for name in listed:
        assert (RESULTS / name).exists(), f"{name} is in results/README.md alone"


def test_results_record_how_they_were_measured_or_say_that_they_do_not():
    """A line of results/README.md says `yes`, or the day and commit of files from before this was recorded."""
    listed = listed_results()
    for path in RESULTS.rglob("study.json"):
        name = str(path.parent.relative_to(RESULTS))
        found = json.loads(path.read_text())
        has = found | {"date": found["dates"]} | {key: found["systems"][0].get(key) for key in RECORDED[1:4]}
        complete = all(has[key] for key in RECORDED)
        assert listed[name][3] == "yes" if complete else re.match(r"\d{4}-\d\d-\d\d, \w{7}", listed[name][3]), name


def test_every_study_has_a_page():
    """And a line in the list of studies."""
    listed = (ROOT / "docs" / "studies" / "README.md").read_text()
    for name in STUDIES:
        page = ROOT / "docs" / "studies" / f"{name}.md"
        assert f"[`{name}`]({page.name})" in listed
        for title in ("What the paper says", "What it says here"):
            assert f"\n## {title}\n" in page.read_text(), f"{page} has no {title!r}"


@pytest.mark.parametrize("name", sorted(path.parent.name for path in RESULTS.glob("*/study.json")))
def test_results_say_what_untrained_networks_score(name):
    """In the table of a study and, as its figure is drawn from the same, in that; norms need a trained run's data."""
    if name == "norms":
        pytest.skip("the study measures blocks on the replay buffer, which is empty before training")
    table = json.loads((RESULTS / name / "study.json").read_text())["table"]
    assert all(any(key.endswith("_untrained") for key in row) for row in table)
