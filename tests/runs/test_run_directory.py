"""Run directories and checkpoints: what may be trusted, and what is refused in one line."""

import json
import os

import pytest

import kilolayer as kl
from kilolayer.runs import Checkpoints, RunDirectory
from small_runs import SMALL, final_state, small_config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "run"
    config = small_config(num_evals=8, checkpoints_to_keep=2, tensorboard=True)
    result = kl.train(config=config, run_dir=path, progress=False)
    assert result.stopped_by is None
    return path


def test_a_run_leaves_what_its_docstring_says(finished):
    run = RunDirectory.open(finished)
    rows = run.metrics()
    assert [row["env_steps"] for row in rows] == [0, *range(40, 401, 40)][: len(rows)] or len(rows) == 9
    assert {"eval/success_any", "eval/success_any_stderr", "train/critic_loss", "perf/env_steps_per_second"} <= set(
        rows[-1]
    )
    assert "train/depth" not in rows[-1]  # it has one depth; config.json tells it
    table = run.csv_file.read_text().splitlines()
    assert len(table) == len(rows) + 1
    assert table[0].split(",")[0] == "env_steps"
    (system,) = json.loads(run.system_file.read_text())
    assert {"versions", "devices", "cpu_cores", "python"} <= set(system)
    assert {"kilolayer", "jax", "mujoco"} <= set(system["versions"])
    assert list((finished / "tensorboard").glob("events*"))


def test_the_last_checkpoints_and_the_best_are_kept(finished):
    checkpoints = Checkpoints(RunDirectory.open(finished).checkpoints)
    steps, best = checkpoints.steps(), checkpoints.best()
    rows = {row["env_steps"]: row for row in RunDirectory.open(finished).metrics() if row["env_steps"]}
    evaluated = sorted(rows)
    assert steps[-2:] == evaluated[-2:]
    assert 2 <= len(steps) <= 3
    top = max(evaluated, key=lambda s: (rows[s]["eval/success_any"], rows[s]["eval/time_at_goal"], s))
    assert best == top
    assert best in steps


def test_a_policy_answers_with_actions(finished):
    policy = kl.load(finished, checkpoint="best")
    action = policy([1.5, 1.5, 0.0, 0.0], [4.5, 1.5])
    assert action.shape == (2,)
    batch = policy([[1.5, 1.5, 0.0, 0.0]] * 3, [[4.5, 1.5]] * 3, mode="stochastic")
    assert batch.shape == (3, 2)
    assert (batch[0] != batch[1]).any()
    assert (policy([1.5, 1.5, 0, 0], [4.5, 1.5]) == action).all()
    assert policy.value([1.5, 1.5, 0, 0], [4.5, 1.5]).shape == ()


@pytest.mark.parametrize(
    ("observation", "goal", "words"),
    [([1.0, 2.0], [1.0, 2.0], "observation has shape (2,)"), ([0.0] * 4, [1.0] * 3, "desired_goal has shape (3,)")],
)
def test_a_policy_refuses_the_wrong_sizes(finished, observation, goal, words):
    with pytest.raises(kl.ConfigurationError) as error:
        kl.load(finished)(observation, goal)
    assert words in str(error.value)


def test_loading_executes_nothing_and_holds_no_pickle(finished):
    for file in finished.rglob("*"):
        if file.is_file():
            assert file.suffix not in (".pkl", ".pickle", ".py", ".so")
            assert not file.read_bytes().startswith(b"\x80\x04")


def test_a_directory_with_a_run_is_not_overwritten(finished):
    with pytest.raises(kl.RunError, match="holds a run already"):
        kl.train(config=small_config(), run_dir=finished, progress=False)


def test_what_is_no_run_directory_is_refused(tmp_path):
    with pytest.raises(kl.RunError, match=r"no config\.json"):
        kl.load(tmp_path)
    with pytest.raises(kl.RunError, match="no such directory"):
        kl.load(tmp_path / "nowhere")
    RunDirectory.create(tmp_path / "empty", small_config())
    with pytest.raises(kl.RunError, match="no checkpoint yet"):
        kl.load(tmp_path / "empty")


def test_an_unknown_checkpoint_names_those_there_are(finished):
    with pytest.raises(kl.RunError, match=r"no checkpoint 7; it has .*400"):
        kl.load(finished, checkpoint=7)


def test_a_directory_that_cannot_be_written_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(kl.RunError, match="cannot be written"):
        kl.train(config=small_config(), run_dir=file / "run", progress=False)


def test_two_processes_cannot_train_in_one_directory(finished):
    with RunDirectory.open(finished).lock(), pytest.raises(kl.RunError, match="in use"):
        kl.train(resume=finished, progress=False)


def test_settings_that_change_steps_cannot_change_when_a_run_resumes(finished):
    with pytest.raises(kl.ConfigurationError, match="batch_size cannot change"):
        kl.train(resume=finished, batch_size=8, progress=False)


# Reads that TensorStore completes after Orbax gave up end in an exception that nothing catches.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "damage",
    [
        "truncated",
        pytest.param("empty", marks=pytest.mark.slow),
        pytest.param("missing", marks=pytest.mark.slow),
        "flipped",
    ],
)
def test_a_damaged_checkpoint_is_refused_and_another_named(tmp_path, damage):
    path = tmp_path / "run"
    kl.train(config=small_config(), run_dir=path, progress=False)
    steps = Checkpoints(path / "checkpoints").steps()
    for file in (path / "checkpoints" / str(steps[-1])).glob("**/d/*"):  # the arrays themselves
        data = bytearray(file.read_bytes())
        match damage:
            case "truncated":
                os.truncate(file, len(data) // 2)
            case "empty":
                os.truncate(file, 0)
            case "missing":
                file.unlink()
            case "flipped":
                data[len(data) // 2] ^= 0xFF
                file.write_bytes(data)
    with pytest.raises(kl.RunError) as error:
        final_state(path)
    assert f"checkpoints/{steps[-1]} is damaged" in str(error.value)
    assert str(error.value).endswith(f"; use checkpoint {steps[0]}")
    assert "\n" not in str(error.value)
    kl.train(resume=path, checkpoint=steps[0], progress=False)
    final_state(path)


def test_metrics_cut_short_by_a_crash_are_read_up_to_there(tmp_path):
    run = RunDirectory.create(tmp_path / "run", small_config())
    run.metrics_file.write_text('{"env_steps": 0}\n{"env_steps": 4')
    assert run.metrics() == [{"env_steps": 0}]


def test_the_library_trains_by_name_with_settings(tmp_path):
    result = kl.train("point_u_maze", run_dir=tmp_path / "run", progress=False, **SMALL)
    assert result.env_steps == 400
    assert result.metrics["env_steps"] == 400


def test_after_a_save_that_failed_closing_says_nothing_more(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)

    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints._manager, "close", fail)
    with pytest.raises(kl.TrainingError, match="No space"):
        checkpoints.close()
    checkpoints._failed = False
    monkeypatch.setattr(checkpoints._manager, "wait_until_finished", fail)
    with pytest.raises(kl.TrainingError, match="No space"):
        checkpoints.wait()
    checkpoints.close()


@pytest.mark.parametrize(
    "damage",
    [
        *(b"", b'{"eval/success_any": "high"}', b'{"eval/success_any": 1}'),
        *(pytest.param(each, marks=pytest.mark.slow) for each in (b"{", b"null", b"[1]", b"\xff")),
    ],
)
def test_a_damaged_evaluation_of_a_checkpoint_locks_nothing(tmp_path, damage):
    kl.train("point_u_maze", run_dir=tmp_path / "run", progress=False, **SMALL)
    directory = RunDirectory.open(tmp_path / "run")
    first, *_, last = Checkpoints(directory.checkpoints).steps()
    file = directory.checkpoints / str(last) / "metrics" / "metrics"
    file.write_bytes(damage)
    assert Checkpoints(directory.checkpoints).best() != last
    kl.load(directory.path)
    kl.load(directory.path, checkpoint=first)
    with pytest.warns(UserWarning, match=rf"{file} cannot be read .* checkpoint {last} is used without it"):
        kl.train(resume=directory.path, total_env_steps=480, progress=False)
    assert file.with_name("metrics.damaged").read_bytes() == damage
    assert Checkpoints(directory.checkpoints).steps()[-1] == 480
