"""A sweep: every trial once, the same trials whenever it is killed, early ends, and results as those of a study."""

import json
import signal
import sys
import threading

import numpy as np
import pytest
from small_sweep import METRIC, Killed, StandIn, endings_of, results_of, run_stand_in, score, small_sweep

from kilolayer.errors import ConfigurationError, RunError, TrainingError
from kilolayer.files import locked
from kilolayer.runs import RunDirectory
from kilolayer.studies import StudyStoppedError, run_sweep, table, write_results
from kilolayer.studies.core import executor as executors
from kilolayer.studies.core.recorded import read_results
from kilolayer.studies.sweep import run as running

pytest.importorskip("optuna")

TRIALS = 13
"""Three more than are drawn at random."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(executors, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(running, "POLL_SECONDS", 0.001)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory of a sweep that ran without a break; tests leave it as it is."""
    directory = tmp_path_factory.mktemp("sweep")
    executor = run_stand_in(directory, TRIALS)
    return directory, executor


def rows_of(directory, sweep=None):
    return table(*results_of(directory, sweep))


def test_each_trial_is_a_run_with_its_settings(finished):
    directory, executor = finished
    assert executor.starts == list(range(TRIALS))
    study, outcomes = results_of(directory)
    assert len(outcomes) == TRIALS
    for one in outcomes:
        config = RunDirectory.open(one.run.path).config()
        assert config == one.case.config
        assert one.case.labels["width"] == config.width
        assert one.case.labels["crl.critic_learning_rate"] == pytest.approx(
            config.agent_settings.critic_learning_rate, rel=1e-3
        )
    assert len({json.dumps(one.case.settings) for one in outcomes}) == TRIALS
    assert study.about["metric"] == METRIC


def test_the_best_trial_is_first_and_pruned_ones_are_last(finished):
    directory, executor = finished
    rows = rows_of(directory)
    complete = [row[METRIC] for row in rows if "unfinished" not in row]
    assert complete == sorted(complete, reverse=True)
    pruned = [row["trial"] for row in rows if "unfinished" in row]
    assert pruned
    assert pruned == [row["trial"] for row in rows[len(complete) :]]
    assert results_of(directory)[0].about["pruned"] == sorted(pruned)
    assert set(executor.stopped) == set(pruned)


def test_the_sampler_goes_where_good_trials_are(finished, tmp_path):
    """After ten trials at random, tpe and random choose differently; before, not."""
    run_stand_in(tmp_path, TRIALS, sweep=small_sweep(sampler="random"))
    chosen = [[one.parameters for one in endings_of(finished[0])]]
    chosen += [[one.parameters for one in endings_of(tmp_path, small_sweep(sampler="random"))]]
    assert chosen[0][:10] == chosen[1][:10]
    assert chosen[0][10:] != chosen[1][10:]


@pytest.mark.parametrize("looks", [2, 7])
def test_a_sweep_that_is_killed_comes_to_the_same_table(finished, tmp_path, looks):
    """Killed after so many looks at its jobs, again and again."""
    for _ in range(100):
        try:
            run_stand_in(tmp_path, TRIALS, StandIn(kill_after=looks))
            break
        except Killed:
            continue
    assert rows_of(tmp_path) == rows_of(finished[0])


def test_a_sweep_grows(finished, tmp_path):
    run_stand_in(tmp_path, 4)
    run_stand_in(tmp_path, TRIALS)
    assert rows_of(tmp_path) == rows_of(finished[0])
    assert run_stand_in(tmp_path, TRIALS).starts == []


def test_two_processes_share_a_sweep_and_each_trial_is_trained_once(tmp_path):
    executors = [StandIn(jobs=2), StandIn(jobs=2)]
    threads = [threading.Thread(target=run_stand_in, args=(tmp_path, 12, one)) for one in executors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(executors[0].starts + executors[1].starts) == list(range(12))
    assert all(executor.starts for executor in executors)
    assert [one.number for one in endings_of(tmp_path)] == list(range(12))
    assert all(one.score is not None for one in endings_of(tmp_path))


def test_a_trial_waits_until_a_killed_process_has_saved(tmp_path):
    with pytest.raises(Killed):
        run_stand_in(tmp_path, 1, StandIn(kill_after=1))
    again = StandIn()
    lock = tmp_path / "trial-0000" / "seeds-0" / "seed-0" / ".lock"
    sweep = run_sweep(small_sweep(), tmp_path, 1, executor=again)
    with locked(lock):
        thread = threading.Thread(target=lambda: list(sweep))
        thread.start()
        thread.join(0.1)
        assert again.starts == []
        assert thread.is_alive()
    thread.join()
    assert again.starts == [0]


# ---- What counts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("others", "value"),
    [
        ({}, lambda scores: np.mean(scores[:, -2:])),
        ({"last": 1}, lambda scores: np.mean(scores[:, -1:])),
        ({"last": 9}, lambda scores: np.mean(scores)),
        ({"seeds": (0, 7)}, lambda scores: np.mean(scores[:, -2:])),
        ({"metric": "eval/success_any"}, lambda scores: 0.5),
    ],
)
def test_the_score_is_the_mean_of_the_last_evaluations_and_of_seeds(tmp_path, others, value):
    sweep = small_sweep(pruner="none", **others)
    run_stand_in(tmp_path, 1, sweep=sweep)
    (ending,) = endings_of(tmp_path, sweep)
    config, count = sweep.config(ending.parameters), sweep.config(ending.parameters).num_evals + 1
    scores = np.array([[score(config, seed, number) for number in range(count)] for seed in sweep.seeds])
    assert ending.score == pytest.approx(value(scores))
    assert rows_of(tmp_path, sweep)[0][sweep.metric] == pytest.approx(value(scores))


def test_the_direction_turns_the_table_and_what_is_pruned(finished, tmp_path):
    sweep = small_sweep(direction="minimize")
    run_stand_in(tmp_path, 10, sweep=sweep)
    rows = rows_of(tmp_path, sweep)
    complete = [row[METRIC] for row in rows if "unfinished" not in row]
    assert complete == sorted(complete)
    pruned = results_of(tmp_path, sweep)[0].about["pruned"]
    assert pruned
    assert not set(pruned) & set(results_of(finished[0])[0].about["pruned"])


def test_without_a_pruner_every_trial_is_trained_to_its_end(tmp_path):
    sweep = small_sweep(pruner="none")
    assert run_stand_in(tmp_path, TRIALS, sweep=sweep).stopped == []
    assert all("unfinished" not in row for row in rows_of(tmp_path, sweep))


def test_the_seed_is_that_of_what_is_tried(finished, tmp_path):
    run_stand_in(tmp_path, 3, sweep=small_sweep(seed=1))
    assert [one.parameters for one in endings_of(tmp_path, small_sweep(seed=1))] != [
        one.parameters for one in endings_of(finished[0])[:3]
    ]


def test_a_metric_that_there_is_not_is_told_at_the_first_evaluation(tmp_path):
    with pytest.raises(ConfigurationError, match=r"metric='eval/time_at_gaol' is not in the evaluations; did you mean"):
        run_stand_in(tmp_path, 3, sweep=small_sweep(metric="eval/time_at_gaol"))


# ---- Trials that do not end as they should -----------------------------------------------------------------


def test_settings_that_were_tried_are_not_trained_again(tmp_path):
    sweep, told = small_sweep({"width": [8, 12, 16]}), []
    executor = run_stand_in(tmp_path, 50, sweep=sweep, log=told.append)
    assert len(executor.starts) == 3
    about = results_of(tmp_path, sweep)[0].about
    assert set(about["repeated"].values()) <= set(executor.starts)
    assert len(rows_of(tmp_path, sweep)) == 3
    assert len(endings_of(tmp_path, sweep)) < 50
    assert told[-1].startswith("sweep: every combination of the space was tried, in ")


def test_a_trial_that_fails_is_named_and_the_others_go_on(tmp_path):
    told = []
    executor = StandIn(fail=lambda work: "actor_loss is not finite" if work.folder == "trial-0001" else None)
    run_stand_in(tmp_path, 4, executor, log=told.append)
    assert results_of(tmp_path)[0].about["failed"] == {"1": "actor_loss is not finite"}
    assert sorted(row["trial"] for row in rows_of(tmp_path)) == [0, 2, 3]
    assert any("trial-0001: failed, the sweep continues: actor_loss is not finite" in line for line in told)


def test_a_score_that_is_no_number_fails(tmp_path):
    executor = StandIn(score=lambda config, seed, number: np.nan if config.width == 8 else 1.0)
    sweep = small_sweep({"width": [8, 16]})
    run_stand_in(tmp_path, 20, executor, sweep=sweep)
    assert set(results_of(tmp_path, sweep)[0].about["failed"].values()) == {"eval/time_at_goal is not a number"}
    assert [row["width"] for row in rows_of(tmp_path, sweep)] == [16]


def test_a_sweep_without_any_result_says_so(tmp_path):
    with pytest.raises(TrainingError, match="sweep: no trial could be trained"):
        run_stand_in(tmp_path, 2, StandIn(fail=lambda work: "out of memory"))
    assert results_of(tmp_path)[1] == []


def test_a_trial_whose_process_was_killed_resumes_with_the_next_start(finished, tmp_path):
    kill = StandIn(fail=lambda work: "killed by SIGKILL" if work.folder == "trial-0002" else None)
    with pytest.raises(TrainingError, match=r"interrupted: trial-0002 \(killed by SIGKILL\); the same sweep, started"):
        run_stand_in(tmp_path, 4, kill)
    assert kill.starts == [0, 1, 2, 3]
    assert results_of(tmp_path)[0].about["unfinished"] == [2]
    assert run_stand_in(tmp_path, 4).starts == [2]


def test_a_signal_stops_the_jobs_and_leaves_their_trials(tmp_path, monkeypatch):
    executor = StandIn(jobs=2)
    monkeypatch.setattr(executor, "wait", lambda running: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(StudyStoppedError) as stopped:
        run_stand_in(tmp_path, 4, executor)
    assert stopped.value.signal == signal.SIGTERM
    assert sorted(executor.stopped) == [0, 1]
    again = run_stand_in(tmp_path, 4)
    assert again.starts == [0, 1, 2, 3]


def test_settings_that_no_check_found_fail_alone(tmp_path, monkeypatch):
    sweep = small_sweep()
    whole = type(sweep).config

    def config(self, parameters):
        if parameters.get("width") == 12:
            raise ConfigurationError("width=12 is out of order")
        return whole(self, parameters)

    monkeypatch.setattr(type(sweep), "config", config)
    run_stand_in(tmp_path, 8)
    failed = results_of(tmp_path)[0].about["failed"]
    assert set(failed.values()) == {"width=12 is out of order"}
    assert len(rows_of(tmp_path)) + len(failed) == 8


# ---- Its directory -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"metric": "eval/success_any"}, r'holds a sweep with metric="eval/time_at_goal", and not "eval/success_any"'),
        ({"seeds": (0, 1)}, r"holds a sweep with seeds=\[0\], and not \[0, 1\]; resume it as it began"),
        ({"data": {"width": [8, 16]}}, "holds a sweep with space="),
    ],
)
def test_another_sweep_does_not_resume_in_its_directory(finished, others, message):
    with pytest.raises(ConfigurationError, match=message):
        run_stand_in(finished[0], TRIALS, sweep=small_sweep(**others))


def test_a_last_line_that_a_crash_cut_short_is_cut_off(finished, tmp_path):
    run_stand_in(tmp_path, 2)
    journal = tmp_path / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "wor')
    assert len(endings_of(tmp_path)) == 2
    assert b"wor{" not in journal.read_bytes()
    run_stand_in(tmp_path, TRIALS)
    assert rows_of(tmp_path) == rows_of(finished[0])


@pytest.mark.parametrize("text", ["{}\n{\n{}\n", "\0\0\n\n", '{"op_code": 77}\n'])
def test_a_journal_that_is_none_is_a_line(tmp_path, text):
    run_stand_in(tmp_path, 1)
    (tmp_path / "journal.log").write_text(text)
    with pytest.raises(RunError, match=r"journal.log cannot be read"):
        run_stand_in(tmp_path, 2)


def test_a_sweep_needs_optuna(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "kilolayer.studies.sweep.journal", raising=False)
    with pytest.raises(ConfigurationError, match=r"install it with `pip install 'kilolayer\[sweep\]'`"):
        run_stand_in(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


# ---- Results -----------------------------------------------------------------------------------------------


def test_results_are_those_of_a_study_and_are_drawn_again_without_the_runs(finished, tmp_path):
    study, outcomes = results_of(finished[0])
    figure = write_results(study, outcomes, tmp_path, command="kilolayer sweep")
    assert figure.name == "sweep.png"
    assert {path.name for path in tmp_path.iterdir()} == {
        *("sweep.png", "index.html", "study.json", "curves.csv", "scores.csv")
    }
    described = json.loads((tmp_path / "study.json").read_text())
    assert described["about"]["space"]["width"] == [8, 12, 16]
    again, recorded, asked = read_results(tmp_path)
    assert asked == "kilolayer sweep"
    assert table(again, recorded) == table(study, outcomes)
    assert write_results(again, recorded, tmp_path / "again").read_bytes() == figure.read_bytes()


def test_evaluations_behind_the_one_that_pruned_a_trial_do_not_count(finished):
    study, outcomes = results_of(finished[0])
    for one in outcomes:
        if one.case.labels["trial"] in study.about["pruned"]:
            assert len(one.rows) < len(one.run.metrics()) or len(one.rows) < 5
            assert not one.finished
