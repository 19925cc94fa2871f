"""Studies: a grid is trained once, goes on where it stopped, and becomes a table, curves and a figure."""

import csv
import dataclasses
import json
import signal

import numpy as np
import pytest

from kilolayer.cli.main import main
from kilolayer.errors import ConfigurationError, TrainingError
from kilolayer.experiments import BASELINES, STUDIES, Case, StudyStoppedError, mean_and_error, run_study, write_results
from kilolayer.experiments import run as running
from kilolayer.training import Setup
from runs import small_config

pytestmark = pytest.mark.usefixtures("quick_compilation")

SEEDS = (0, 1)


def small_cases(size):
    assert size == "cpu"
    return [
        Case({"task": "point_u_maze", "agent": "crl", "depth": depth}, small_config(depth=depth)) for depth in (0, 4)
    ]


SMALL_STUDY = dataclasses.replace(BASELINES, name="small", cases=small_cases, seeds=len(SEEDS))


def run_all(directory):
    return [
        one for case in run_study(SMALL_STUDY, small_cases("cpu"), SEEDS, directory, progress=False) for one in case
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory of a finished study, and what it came to."""
    directory = tmp_path_factory.mktemp("study")
    return directory, run_all(directory)


def without_times(rows):
    return [{name: value for name, value in row.items() if not name.startswith("perf/")} for row in rows]


def test_every_case_is_trained_with_every_seed(finished):
    _, outcomes = finished
    assert [(one.case.labels["depth"], one.seed) for one in outcomes] == [(0, 0), (0, 1), (4, 0), (4, 1)]
    for one in outcomes:
        assert one.rows[-1]["env_steps"] >= one.case.config.total_env_steps
        assert one.system
    assert without_times(outcomes[0].rows) != without_times(outcomes[1].rows)


def test_what_is_finished_is_not_trained_again(finished, monkeypatch):
    directory, outcomes = finished

    def fail(**_):
        raise AssertionError("it was trained again")

    monkeypatch.setattr(running, "train_seeds", fail)
    again = run_all(directory)
    assert [one.rows for one in again] == [one.rows for one in outcomes]


def test_a_study_that_was_stopped_comes_to_the_same(finished, tmp_path, monkeypatch):
    """The second case is stopped before its end; started again, the study goes on there."""
    train, calls = running.train_seeds, []

    def stopping(**arguments):
        calls.append(arguments)
        if len(calls) != 2:
            return train(**arguments)
        results = train(**arguments | {"config": dataclasses.replace(arguments["config"], total_env_steps=120)})
        return [dataclasses.replace(result, stopped_by=signal.SIGTERM) for result in results]

    monkeypatch.setattr(running, "train_seeds", stopping)
    with pytest.raises(StudyStoppedError, match="start the same study again") as stopped:
        run_all(tmp_path)
    assert stopped.value.signal == signal.SIGTERM
    again = run_all(tmp_path)
    assert "resume" in calls[2]
    assert len(calls) == 3
    for one, other in zip(again, finished[1], strict=True):
        metrics = [
            {name: row[name] for name in row if name.startswith("eval/")} for row in (one.rows[-1], other.rows[-1])
        ]
        assert metrics[0] == metrics[1]


def test_a_case_that_fails_is_told_and_the_others_go_on(finished, tmp_path, monkeypatch, capsys):
    train = running.train_seeds

    def failing(**arguments):
        if arguments["config"].depth == 0:
            raise TrainingError("actor_loss is not finite")
        return train(**arguments)

    monkeypatch.setattr(running, "train_seeds", failing)
    monkeypatch.setitem(STUDIES, "small", SMALL_STUDY)
    assert main(["study", "small", "--dir", str(tmp_path), "--json"]) == 2
    shown = capsys.readouterr()
    assert [row["depth"] for row in json.loads(shown.out)] == [4]
    assert "point_u_maze-crl-0 failed, the study goes on: actor_loss is not finite" in shown.err
    assert shown.err.splitlines()[-1].startswith("kilolayer: error: small: point_u_maze-crl-0 could not be trained")


def test_results_hold_every_evaluation_and_a_figure(finished, tmp_path):
    _, outcomes = finished
    figure = write_results(SMALL_STUDY, outcomes, tmp_path)
    assert figure.stat().st_size > 10_000
    rows = list(csv.DictReader((tmp_path / "curves.csv").read_text().splitlines()))
    assert len(rows) == sum(len(one.rows) for one in outcomes)
    last = [row for row in rows if row["depth"] == "4" and row["seed"] == "1"][-1]
    assert float(last["eval/success_any"]) == outcomes[-1].rows[-1]["eval/success_any"]
    described = json.loads((tmp_path / "study.json").read_text())
    assert described["seeds"] == [0, 1]
    assert described["systems"][0]["versions"]["jax"]
    assert described["cases"] == {"point_u_maze-crl-0": {"depth": 0}, "point_u_maze-crl-4": {"depth": 4}}
    assert described["settings"]["width"] == 16
    assert "seed" not in described["settings"]
    scores = [outcomes[place].score("eval/time_at_goal") for place in (2, 3)]
    row = described["table"][1]
    assert row["eval/time_at_goal"] == pytest.approx(np.mean(scores))
    assert row["eval/time_at_goal_stderr"] == pytest.approx(np.std(scores, ddof=1) / 2**0.5)


def test_a_score_is_the_mean_of_the_last_five_evaluations(finished):
    one = finished[1][0]
    rows = [{"env_steps": step, "eval/success_any": value} for step, value in enumerate([9.0, 9.0, 1, 2, 3, 4, 5])]
    assert dataclasses.replace(one, rows=rows).score("eval/success_any") == 3.0


def test_standard_errors_are_those_of_the_mean():
    assert mean_and_error([1.0, 3.0]) == (2.0, 1.0)
    mean, error = mean_and_error([4.0])
    assert mean == 4.0
    assert np.isnan(error)


def test_other_settings_or_seeds_are_refused(finished):
    directory, _ = finished
    other = [dataclasses.replace(small_cases("cpu")[0], config=small_config(depth=0, width=12))]
    with pytest.raises(ConfigurationError, match=r"holds this case with width=\d+, not 12"):
        next(run_study(SMALL_STUDY, other, SEEDS, directory, progress=False))
    with pytest.raises(ConfigurationError, match="holds the seeds 0, 1, not 0, 2"):
        next(run_study(SMALL_STUDY, small_cases("cpu"), (0, 2), directory, progress=False))


# ---- The command -------------------------------------------------------------------------------------------


@pytest.fixture
def with_small_study(monkeypatch):
    monkeypatch.setitem(STUDIES, "small", SMALL_STUDY)


def test_the_command_prints_the_table(finished, with_small_study, capsys, tmp_path):
    directory, outcomes = finished
    arguments = ["study", "small", "--dir", str(directory), "--results", str(tmp_path), "--quiet"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "success_any" in shown
    assert "±" in shown
    assert str(tmp_path / "small.png") in shown
    assert main([*arguments, "--json", "--only", "depth=4"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["depth"] == 4
    assert row["eval/success_any"] == pytest.approx(np.mean([one.score("eval/success_any") for one in outcomes[2:]]))


def test_the_command_lists_studies_and_cases(with_small_study, capsys):
    assert main(["study"]) == 0
    assert "baselines" in capsys.readouterr().out
    assert main(["study", "small", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("point_u_maze-crl-0: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["baseline"], "study 'baseline' is unknown; did you mean baselines"),
        (["small", "--only", "agent=sac"], "only='agent=sac' names no cases; there are task=point_u_maze"),
        (["small", "--seeds", "2..1"], "runs backwards"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(with_small_study, capsys, arguments, message):
    assert main(["study", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


@pytest.mark.parametrize("size", ["cpu", "gpu", "paper"])
def test_the_comparison_has_every_agent_on_every_task_and_builds(size):
    cases = BASELINES.cases(size)
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        if case.labels["depth"] == 4:
            Setup.build(case.config)
