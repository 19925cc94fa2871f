"""What a study leaves: every evaluation and score as data, the table, the settings, the figure and the page."""

import csv
import dataclasses
import html
import json
import math

import numpy as np
import pytest

from kilolayer.report.style import new_figure
from kilolayer.studies import Case, Measured, table, write_results
from kilolayer.studies.core.figures import draw_mean_curve
from kilolayer.studies.core.results import by_case, score_text
from small_study import STUDY

SUCCESS, TIME = "eval/success_any", "eval/time_at_goal"


def with_rows(outcome, rows, **changes):
    """Return an outcome with other evaluations."""
    new = dataclasses.replace(outcome, **changes)
    new.__dict__["rows"] = rows
    return new


def read(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def written(finished_study, tmp_path_factory):
    directory = tmp_path_factory.mktemp("results")
    outcomes = [
        dataclasses.replace(one, measured=Measured({"norm": 2.0 + one.seed}, [{"block": 0, "norm": 1.0 + one.seed}]))
        for one in finished_study[1]
    ]
    study = dataclasses.replace(STUDY, metrics=(*STUDY.metrics, "norm"))
    return write_results(study, outcomes, directory, command="kilolayer study small --seeds '0,1'"), outcomes


def test_curves_hold_every_evaluation(written):
    figure, outcomes = written
    rows = read(figure.with_name("curves.csv"))
    assert list(rows[0]) == ["task", "depth", "seed", "env_steps", "gradient_steps", TIME, SUCCESS, "perf/seconds"]
    expected = [(one, row) for one in outcomes for row in one.rows]
    assert len(rows) == len(expected) == 4 * 3
    for found, (one, row) in zip(rows, expected, strict=True):
        assert (found["task"], int(found["depth"])) == tuple(one.case.labels.values())
        assert int(found["seed"]) == one.seed
        for name in ("env_steps", "gradient_steps", SUCCESS, TIME, "perf/seconds"):
            assert float(found[name]) == row[name]


def test_scores_hold_every_seed(written):
    figure, outcomes = written
    rows = read(figure.with_name("scores.csv"))
    for found, one in zip(rows, outcomes, strict=True):
        assert float(found[SUCCESS]) == np.mean([row[SUCCESS] for row in one.rows])
        assert float(found["norm"]) == 2.0 + one.seed
        assert float(found["seconds"]) == one.rows[-1]["perf/seconds"]


def test_what_was_measured_has_a_file(written, finished_study, tmp_path):
    figure, outcomes = written
    rows = read(figure.with_name("measured.csv"))
    assert rows == [
        {"task": "point_u_maze", "depth": str(one.case.labels["depth"]), "seed": str(one.seed)}
        | {"block": "0", "norm": str(1.0 + one.seed)}
        for one in outcomes
    ]
    write_results(STUDY, finished_study[1], tmp_path)
    assert not (tmp_path / "measured.csv").exists()


def test_the_description_has_table_settings_and_systems(written):
    figure, outcomes = written
    found = json.loads(figure.with_name("study.json").read_text())
    assert (found["study"], found["question"], found["seeds"]) == ("small", STUDY.question, [0, 1])
    assert found["cases"] == {"point_u_maze-0": {"depth": 0}, "point_u_maze-4": {"depth": 4}}
    assert found["settings"]["width"] == 16
    assert not {"seed", "depth"} & set(found["settings"])
    assert found["systems"][0]["versions"]["jax"]
    assert "started" not in found["systems"][0]
    scores = [one.score(TIME) for one in outcomes[2:]]
    row = found["table"][1]
    assert row[TIME] == pytest.approx(np.mean(scores))
    assert row[f"{TIME}_stderr"] == pytest.approx(np.std(scores, ddof=1) / 2**0.5)
    assert row[f"{TIME}_iqm"] == pytest.approx(np.mean(scores))
    assert min(scores) <= row[f"{TIME}_low"] <= row[f"{TIME}_high"] <= max(scores)
    assert (row["depth"], row["seeds"]) == (4, 2)
    assert row["seconds"] == pytest.approx(max(one.seconds for one in outcomes[2:]), abs=0.06)


def test_the_page_holds_all_of_it(written):
    figure, outcomes = written
    text = html.unescape(figure.with_name("index.html").read_text())
    assert STUDY.question in text
    assert "2 cases, 2 seeds each." in text
    assert "data:image/png;base64," in text
    assert "kilolayer study small --seeds '0,1'" in text
    for name in ("curves.csv", "scores.csv", "measured.csv", "study.json", "small.png"):
        assert f'href="{name}"' in text
        assert figure.with_name(name).stat().st_size > 50
    for row in table(STUDY, outcomes):
        assert score_text(row, TIME) in text
    assert figure.stat().st_size > 10_000


def test_a_score_is_the_mean_of_the_last_five_evaluations(finished_study):
    values = [9.0, 9.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    one = with_rows(finished_study[1][0], [{"env_steps": step, SUCCESS: value} for step, value in enumerate(values)])
    assert one.score(SUCCESS) == 3.0
    assert math.isnan(one.score(TIME))


def test_a_single_seed_has_a_mean_and_no_error(finished_study, tmp_path):
    (row,) = table(STUDY, finished_study[1][:1])
    assert math.isnan(row[f"{TIME}_stderr"])
    assert "±" not in score_text(row, TIME)
    figure = write_results(STUDY, finished_study[1][:1], tmp_path)
    assert "1 cases, 1 seeds each." in figure.with_name("index.html").read_text()
    text = figure.with_name("study.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["table"][0][f"{TIME}_stderr"] is None


def test_cases_need_not_have_the_same_labels(finished_study, tmp_path):
    """Nor does it matter that their names are equal."""
    first, _, second, _ = finished_study[1]
    labels = ({"change": "none", "depth": 0}, {"change": "none", "width": 0})
    outcomes = [
        dataclasses.replace(one, case=Case(own, one.case.config))
        for one, own in zip((first, second), labels, strict=True)
    ]
    assert len(by_case(outcomes)) == 2
    study = dataclasses.replace(STUDY, draw=lambda _: new_figure(2.0, 2.0))
    write_results(study, outcomes, tmp_path)
    rows = read(tmp_path / "scores.csv")
    assert [(row["depth"], row["width"]) for row in rows] == [("0", ""), ("", "0")]


def test_a_curve_is_that_of_the_evaluations_that_all_seeds_have(finished_study):
    outcomes = [
        with_rows(one, [{"env_steps": step, TIME: float(step * (1 + one.seed))} for step in steps])
        for one, steps in zip(finished_study[1][:2], ((0, 10, 20, 30), (0, 20)), strict=True)
    ]
    axes = new_figure(2.0, 2.0).subplots()
    draw_mean_curve(axes, outcomes, TIME, label="both", color="black")
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines["both"] == [[0.0, 0.0], [20.0, 30.0]]
    draw_mean_curve(axes, outcomes, SUCCESS, label="none", color="black")
    assert "none" not in [line.get_label() for line in axes.lines]
