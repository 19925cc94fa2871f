"""A study trains every case with every seed once, goes on where it was stopped, and shares runs of equal settings."""

import dataclasses
import json
import shutil
import signal
import time

import pytest

from kilolayer.errors import RunError, TrainingError
from kilolayer.runs import RunDirectory
from kilolayer.studies import Measured, StudyStoppedError, Work
from kilolayer.studies.core import run as running
from kilolayer.training.trainer import Trainer
from small_runs import kilolayer
from small_study import SEEDS, STUDY, numbers, run_all, small_case


@pytest.fixture
def trained(monkeypatch):
    """What `train_seeds` was called with; it trains as ever."""
    train, calls = running.train_seeds, []

    def recording(**arguments):
        calls.append(arguments)
        return train(**arguments)

    monkeypatch.setattr(running, "train_seeds", recording)
    return calls


@pytest.fixture
def copied(finished_study, tmp_path):
    """A copy of the finished study's directory, to change."""
    return shutil.copytree(finished_study[0], tmp_path / "study")


def test_every_case_is_trained_with_every_seed(finished_study):
    directory, outcomes = finished_study
    assert [(one.case.labels["depth"], one.seed) for one in outcomes] == [(0, 0), (0, 1), (4, 0), (4, 1)]
    for one in outcomes:
        assert one.rows[-1]["env_steps"] >= one.case.config.total_env_steps
        assert one.systems[0]["versions"]["jax"]
        assert one.run.config() == dataclasses.replace(one.case.config, seed=one.seed)
        assert one.run.path.parent.parent == directory / one.case.directory
    first, second = numbers(outcomes[:2])
    assert first != second


def test_what_is_kept_of_a_run_may_change_when_a_study_resumes(tmp_path):
    """The settings of what is kept are those of the last start; others are those that a case was trained with."""
    case = small_case(depth=0, total_env_steps=120)
    Work(case, (0,), tmp_path).train(progress=False)
    (run,) = tmp_path.glob("*/seeds-0/seed-0")
    shutil.rmtree(run / "checkpoints" / "120")  # as if it was killed before its last checkpoint
    again = small_case(depth=0, total_env_steps=120, checkpoints_to_keep=7)
    Work(again, (0,), tmp_path).train(progress=False)
    assert RunDirectory(run).config().checkpoints_to_keep == 7
    assert Work(again, (0,), tmp_path).is_finished


def test_what_is_finished_is_not_trained_again(finished_study, trained):
    directory, outcomes = finished_study
    told = []
    again = run_all(directory, log=told.append)
    assert [one.rows for one in again] == [one.rows for one in outcomes]
    assert trained == []
    assert told == []


def test_without_its_last_checkpoint_a_run_is_not_finished(finished_study, copied, trained):
    """It was killed after its last evaluation was written, and before the state was saved."""
    case = finished_study[1][0].case
    (lot,) = (copied / case.directory).iterdir()
    shutil.rmtree(lot / "seed-1" / "checkpoints" / "400")
    assert not Work(case, SEEDS, copied).is_finished
    assert numbers(run_all(copied)) == numbers(finished_study[1])
    assert [call["resume"] for call in trained] == [lot]


@pytest.mark.slow
def test_a_study_that_was_stopped_comes_to_the_same(finished_study, tmp_path, monkeypatch, trained):
    """A signal comes in the middle of the second case; started again, the study goes on there."""
    advance = Trainer._advance

    def stopping(trainer, display):
        advance(trainer, display)
        if trainer.config.depth == 4 and trainer.clocks.env_steps == 240:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_advance", stopping)
        with pytest.raises(StudyStoppedError, match="start the same study again") as stopped:
            run_all(tmp_path)
    assert stopped.value.signal == signal.SIGTERM
    shares = [Work(case, SEEDS, tmp_path).share for case in STUDY.grid("cpu")]
    assert shares == [1.0, 0.5]
    again = run_all(tmp_path)
    assert [("resume" in call) for call in trained] == [False, False, True]
    assert numbers(again) == numbers(finished_study[1])


def test_a_group_stopped_before_its_first_files_starts_again(finished_study, copied, trained):
    (lot,) = (copied / finished_study[1][0].case.directory).iterdir()
    (lot / "seeds.json").unlink()
    (lot / "seed-1" / "config.json").unlink()
    assert numbers(run_all(copied)) == numbers(finished_study[1])
    assert [call["seeds"] for call in trained] == [[0, 1]]


def test_seeds_that_are_added_are_trained_alone(finished_study, copied, trained):
    outcomes = run_all(copied, STUDY.grid("cpu")[:1], seeds=(0, 1, 5))
    assert [one.seed for one in outcomes] == [0, 1, 5]
    assert [call["seeds"] for call in trained] == [[5]]
    assert numbers(outcomes)[:2] == numbers(finished_study[1])[:2]
    fewer = run_all(copied, STUDY.grid("cpu")[:1], seeds=(5, 1))
    assert numbers(fewer) == [numbers(outcomes)[place] for place in (2, 1)]
    assert len(trained) == 1


def test_cases_with_equal_settings_are_trained_once(finished_study, copied, trained):
    cases = [small_case({"what": what}, depth=depth) for what, depth in (("base", 4), ("changed", 0), ("same", 4))]
    assert cases[0].directory == cases[2].directory != cases[1].directory
    outcomes = run_all(copied, cases)
    assert {one.case.labels["what"]: one.run.path for one in outcomes if one.seed == 0} == {
        case.labels["what"]: copied / case.directory / "seeds-0-1" / "seed-0" for case in cases
    }
    assert trained == []
    other = small_case(depth=4, batch_size=15)
    assert other.directory != cases[0].directory
    assert small_case(depth=4, seed=7).directory == cases[0].directory


def test_a_case_that_fails_is_reported_and_the_others_continue(finished_study, tmp_path, monkeypatch):
    directory, outcomes = finished_study
    shutil.copytree(directory / outcomes[-1].case.directory, tmp_path / outcomes[-1].case.directory)

    def failing(**_):
        raise TrainingError("actor_loss is not finite")

    monkeypatch.setattr(running, "train_seeds", failing)
    told, found = [], []
    study = running.run_study(STUDY, STUDY.grid("cpu"), SEEDS, tmp_path, log=told.append)
    with pytest.raises(TrainingError, match=r"^small: point_u_maze-0 could not be trained; all other cases are in"):
        found.extend(one for own in study for one in own)
    assert told == [
        "small: case 1 of 1, point_u_maze-0, 2 seeds",
        "small: point_u_maze-0 failed, the study continues: actor_loss is not finite",
    ]
    assert numbers(found) == numbers(outcomes[2:])


def test_a_case_that_another_process_trains_is_reported(tmp_path, monkeypatch):
    def locked(**_):
        raise RunError("it is in use")

    monkeypatch.setattr(running, "train_seeds", locked)
    told = []
    with pytest.raises(TrainingError, match="point_u_maze-0, point_u_maze-4 could not be trained"):
        run_all(tmp_path, log=told.append)
    assert [text for text in told if text.endswith("in use")] == [
        f"small: point_u_maze-{depth} failed, the study continues: it is in use" for depth in (0, 4)
    ]


def test_what_a_study_measures_belongs_to_the_outcome(finished_study):
    directory, _ = finished_study

    def measure(outcome):
        return Measured({"eval/success_any": 7.0 + outcome.seed}, [{"block": 1, "norm": float(outcome.seed)}])

    outcomes = run_all(directory, study=dataclasses.replace(STUDY, measure=measure))
    assert [one.score("eval/success_any") for one in outcomes] == [7.0, 8.0, 7.0, 8.0]
    assert outcomes[1].measured.rows == [{"block": 1, "norm": 1.0}]
    assert outcomes[0].score("eval/time_at_goal") == outcomes[0].curve("eval/time_at_goal")[1].mean()


@pytest.mark.parametrize(("seconds", "text"), [(1, "1 min"), (3599, "1 h 0 min"), (7300, "2 h 2 min")])
def test_times_to_wait_are_in_words(seconds, text):
    assert running._duration(seconds) == text


# ---- The command in a process of its own -------------------------------------------------------------------

COMMAND = ("study", "depth", "--only", "depth=4,depth=8", "--seeds", "0,1", "--json", "--set")
SETTINGS = {
    "width": 16,
    "batch_size": 16,
    "num_envs": 4,
    "episode_length": 20,
    "unroll_length": 10,
    "gradient_steps_per_unroll": 3,
    "replay_capacity": 60,
    "min_replay": 20,
    "total_env_steps": 1200,
    "num_evals": 30,
    "num_eval_envs": 4,
}
QUICK = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


def start(directory, *flags):
    changes = ",".join(f"{name}={value}" for name, value in SETTINGS.items())
    return kilolayer(*COMMAND, changes, "--run-dir", str(directory), *flags, env=QUICK)


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return [{name: value for name, value in row.items() if name != "seconds"} for row in json.loads(out)]


def wait_for_rows(directory, pattern, count):
    """Wait until a case has so many evaluations."""
    deadline = time.monotonic() + 240.0
    while time.monotonic() < deadline:
        files = list(directory.glob(f"{pattern}/seeds-*/seed-0/metrics.jsonl"))
        if files and len(files[0].read_text().splitlines()) >= count:
            return
        time.sleep(0.02)
    raise TimeoutError(f"{pattern} never had {count} evaluations")


def rows_by_run(directory):
    rows = {}
    for file in sorted(directory.glob("*/seeds-*/seed-*/metrics.jsonl")):
        own = [json.loads(line) for line in file.read_text().splitlines()]
        rows[str(file.relative_to(directory))] = [
            {name: value for name, value in row.items() if not name.startswith("perf/")} for row in own
        ]
    return rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The table and the rows of a study that was never stopped."""
    directory = tmp_path_factory.mktemp("whole")
    table = finish(start(directory))
    assert len(rows_by_run(directory)) == 4
    return table, rows_by_run(directory)


@pytest.mark.slow
def test_a_study_that_was_killed_comes_to_the_same(whole, tmp_path):
    process = start(tmp_path)
    wait_for_rows(tmp_path, "*-d8-*", 5)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(rows_by_run(tmp_path)) == 4
    assert rows_by_run(tmp_path) != whole[1]
    assert finish(start(tmp_path)) == whole[0]
    assert rows_by_run(tmp_path) == whole[1]


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_study_in_processes_that_was_stopped_comes_to_the_same(whole, tmp_path, end):
    """Its children stop too, saved, also when it is killed."""
    process = start(tmp_path, "--jobs", "2")
    wait_for_rows(tmp_path, "*-d8-*", 5)
    process.send_signal(end)
    _, err = process.communicate(timeout=120)
    assert process.returncode == (128 + end if end == signal.SIGTERM else -end), err
    if end == signal.SIGTERM:
        assert "stopped and saved; start the same study again to resume" in err
        assert len(list(tmp_path.glob("*/seeds-*/seed-*/checkpoints/*"))) >= 2
    else:
        wait_until_unlocked(tmp_path)
    assert rows_by_run(tmp_path) != whole[1]
    assert finish(start(tmp_path, "--jobs", "2")) == whole[0]
    assert rows_by_run(tmp_path) == whole[1]


def wait_until_unlocked(directory):
    """Wait until no process trains in a directory any more."""
    import fcntl

    for path in directory.glob("*/seeds-*/seed-*/.lock"):
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
