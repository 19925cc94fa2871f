"""Results drawn again from their files are those that the runs gave, and a damaged folder is one clear line."""

import csv
import itertools
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from fabricated import outcomes

from kilolayer.cli.main import main
from kilolayer.studies import STUDIES, table, write_results
from kilolayer.studies.core.recorded import read_results
from small_runs import small_config

RECORDED = sorted(path.parent for path in (Path(__file__).parents[2] / "results").glob("*/study.json"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The results of the study `batch`, as it writes them; and its runs are gone."""
    base = tmp_path_factory.mktemp("recorded")
    study = STUDIES["batch"]
    grid = study.grid("cpu")
    scores = {case.name: (0.25, 0.5, 0.75 + 0.01 * place) for place, case in enumerate(grid)}
    found = outcomes(base / "runs", grid, scores)
    for one, date in zip(found, ("2026-11-26T09:00:00+0000", "2026-11-27T10:00:00+0000"), strict=False):
        one.run.system_file.write_text(json.dumps([{"started": date, "cpu": "one of them", "imported": []}]))
    write_results(study, found, base / "results", command="kilolayer study batch")
    rows = table(study, found)
    for path in (base / "runs").rglob("metrics.jsonl"):
        path.unlink()
    return base / "results", rows


@pytest.mark.parametrize("directory", RECORDED, ids=lambda path: path.name)
def test_the_command_of_committed_results_names_no_place_of_the_machine_that_made_them(directory):
    command = json.loads((directory / "study.json").read_text()).get("command") or ""
    assert not [word for word in shlex.split(command) if Path(word.rpartition("=")[2]).is_absolute()]


def files(directory):
    return {name: (directory / name).read_bytes() for name in ("curves.csv", "scores.csv", "study.json")}


def test_the_table_is_that_of_the_runs(written):
    directory, rows = written
    study, found, command = read_results(directory)
    assert (study.name, command) == ("batch", "kilolayer study batch")
    assert table(study, found) == rows
    assert {one.case.config.batch_size for one in found} == {64, 256, 1024}


def test_drawing_again_changes_no_data(written, capsys):
    directory, _ = written
    before = files(directory)
    assert json.loads(before["study.json"])["dates"] == ["2026-11-26", "2026-11-27"]
    (directory / "batch.png").unlink()
    assert main(["study", f"--redraw={directory}"]) == 0
    assert files(directory) == before
    assert (directory / "batch.png").stat().st_size > 1000
    assert f"figure: {directory / 'batch.png'}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text"),
    [("study.json", "{}"), ("study.json", "[1"), ("scores.csv", ""), ("curves.csv", "a,b\n1\n"), ("scores.csv", None)],
)
def test_damaged_files_are_one_line(written, tmp_path, capsys, name, text):
    directory, _ = written
    for each in directory.iterdir():
        if each.suffix in (".csv", ".json"):
            (tmp_path / each.name).write_bytes(each.read_bytes())
    if text is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(text)
    assert main(["study", f"--redraw={tmp_path}"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert str(tmp_path) in lines[0]


def test_an_unknown_study_is_named(written, tmp_path, capsys):
    description = json.loads((written[0] / "study.json").read_text())
    (tmp_path / "study.json").write_text(json.dumps(description | {"study": "btach"}))
    assert main(["study", f"--redraw={tmp_path}"]) == 2
    assert "btach" in capsys.readouterr().err


def test_untrained_scores_have_columns_and_rows(written):
    directory, rows = written
    with (directory / "scores.csv").open() as file:
        first = next(csv.DictReader(file))
    assert float(first["eval/time_at_goal_untrained"]) == float(first["eval/time_at_goal"])  # fabricated so
    assert rows[0]["eval/time_at_goal_untrained"] == pytest.approx(100.0 * np.mean([0.25, 0.5, 0.75]))
    text = (directory / "index.html").read_text()
    assert text.count(", untrained</td>") == len(rows)


def test_agents_with_settings_of_their_own_are_described_together(tmp_path):
    """Each agent's block is in its own configuration alone."""
    study = STUDIES["baselines"]
    grid = [case for case in study.grid("cpu") if case.labels["agent"] in ("crl", "sac") and case.labels["depth"] == 4]
    found = outcomes(tmp_path / "runs", grid, {case.name: (0.5, 0.6) for case in grid})
    write_results(study, found, tmp_path / "results")
    description = json.loads((tmp_path / "results" / "study.json").read_text())
    assert {"crl", "sac"} <= {name for case in description["cases"].values() for name in case}
    assert small_config().agent == description["cases"][grid[0].name]["agent"]


@pytest.mark.parametrize("directory", RECORDED, ids=lambda directory: directory.name)
def test_no_title_lies_over_another(directory):
    study, found, _ = read_results(directory)
    figure = study.draw(found)
    figure.canvas.draw()
    titles = [text for axes in figure.axes for text in (axes.title, axes._left_title, axes._right_title)]
    boxes = [(text.get_text(), text.get_window_extent()) for text in titles if text.get_text()]
    assert boxes
    assert [(a, b) for (a, one), (b, other) in itertools.combinations(boxes, 2) if one.overlaps(other)] == []
