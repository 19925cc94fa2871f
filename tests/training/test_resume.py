"""A run goes on as if it had never stopped, however it stopped."""

import json
import random
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

import kilolayer as kl
from kilolayer.runs import Checkpoints, RunDirectory
from small_runs import assert_same_state, final_state, flags, kilolayer, small_config

EVERY_UNROLL = {"total_env_steps": 1200, "num_evals": 30}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that was never stopped, with a checkpoint after every unroll."""
    path = tmp_path_factory.mktemp("whole") / "run"
    kl.train(config=small_config(**EVERY_UNROLL), run_dir=path, progress=False)
    return path


def without_times(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if not name.startswith("perf/")} for row in rows]


def assert_same_run(a: Path, b: Path) -> None:
    assert_same_state(final_state(a), final_state(b))
    rows_a, rows_b = (RunDirectory.open(path).metrics() for path in (a, b))
    assert json.dumps(without_times(rows_a)) == json.dumps(without_times(rows_b))


def test_two_halves_equal_the_whole_bit_for_bit(whole, tmp_path):
    path = tmp_path / "run"
    half = kl.train(config=small_config(total_env_steps=600, num_evals=15), run_dir=path, progress=False)
    assert half.env_steps == 600
    result = kl.train(resume=path, total_env_steps=1200, progress=False)
    assert result.env_steps == 1200
    assert_same_state(final_state(whole), final_state(path))


def test_the_state_does_change_while_training(whole):
    with pytest.raises(AssertionError):
        assert_same_state(final_state(whole), final_state(whole, 1160))


def test_a_finished_run_has_nothing_to_resume(whole):
    result = kl.train(resume=whole, progress=False)
    assert (result.env_steps, result.stopped_by) == (1200, None)


def test_going_on_from_an_earlier_checkpoint_takes_the_same_steps_again(whole):
    expected = final_state(whole)
    kl.train(resume=whole, checkpoint=1120, progress=False)
    assert_same_state(expected, final_state(whole))
    steps = [row["env_steps"] for row in RunDirectory.open(whole).metrics()]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_says_how_to_resume(whole, tmp_path, number):
    path = tmp_path / "run"
    process = kilolayer("train", "point_u_maze", f"--run-dir={path}", *flags(**EVERY_UNROLL))
    wait_for(lambda: (path / "metrics.jsonl").exists() and rows_of(path) >= 3, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    if "finished" in out:  # it was faster than the signal
        pytest.fail("the run must be longer for this test")
    assert process.returncode == 128 + number, err
    assert f"kilolayer train --resume {path}" in out
    assert number.name in err
    result = kl.train(resume=path, progress=False)
    assert result.stopped_by is None
    assert_same_run(whole, path)


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_nothing_before_the_last_checkpoint(whole, tmp_path):
    path = tmp_path / "run"
    draw = random.Random(0)
    arguments = ["train", "point_u_maze", f"--run-dir={path}", *flags(**EVERY_UNROLL)]
    kills = 0
    for attempt in range(4):
        process = kilolayer(*arguments)
        arguments = ["train", f"--resume={path}"]
        before = rows_of(path)
        try:
            if attempt % 2:  # in the middle of a save
                wait_for(lambda before=before: rows_of(path) > before and being_saved(path), process)
            else:
                wait_for(lambda before=before: rows_of(path) > before + 1, process)
                time.sleep(draw.uniform(0.0, 0.05))
        except ProcessEndedError:
            break
        process.kill()
        process.communicate()
        kills += 1
    assert kills >= 2
    result = kl.train(resume=path, progress=False)
    assert result.env_steps == 1200
    assert_same_run(whole, path)


def assert_full_disk_is_survived(path: Path, process: subprocess.Popen) -> None:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2, out + err
    lines = [line for line in err.splitlines() if "env steps" not in line]
    assert len(lines) == 1, err
    (line,) = lines
    assert line.startswith("kilolayer: error: ")
    assert "could not be saved" in line or "could not be written" in line
    steps = Checkpoints(path / "checkpoints").steps()
    assert f"the last good one is {path / 'checkpoints' / str(steps[-1])}" in line or "metrics" in line
    assert final_state(path).env_steps == steps[-1] >= 600


@pytest.mark.slow
def test_a_full_disk_in_the_middle_of_a_save_keeps_the_checkpoint_before(whole, tmp_path):
    path = tmp_path / "run"
    kl.train(config=small_config(total_env_steps=600, num_evals=15), run_dir=path, progress=False)

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limit[1]))
    try:
        process = kilolayer("train", f"--resume={path}", "--total-env-steps=1200")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert_full_disk_is_survived(path, process)
    kl.train(resume=path, total_env_steps=1200, progress=False)
    assert_same_state(final_state(whole), final_state(path))


@pytest.mark.slow
def test_a_file_system_without_room_keeps_the_checkpoint_before(whole, tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    size = "size=700k"
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(mount)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a small file system needs rights that are not given here")
    try:
        path = mount / "run"
        config = small_config(total_env_steps=600, num_evals=1, checkpoints_to_keep=1)
        kl.train(config=config, run_dir=path, progress=False)
        process = kilolayer(
            "train",
            f"--resume={path}",
            "--total-env-steps=1200",
            "--checkpoints-to-keep=30",
            "--checkpoint-minutes=1e-6",
        )
        assert_full_disk_is_survived(path, process)
        subprocess.run(["mount", "-o", "remount,size=50m", str(mount)], check=True)
        kl.train(resume=path, total_env_steps=1200, progress=False)
        assert_same_state(final_state(whole), final_state(path))
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def rows_of(path: Path) -> int:
    file = path / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def being_saved(path: Path) -> bool:
    return any("tmp" in entry.name for entry in (path / "checkpoints").glob("*"))


class ProcessEndedError(Exception):
    pass


def wait_for(condition, process: subprocess.Popen, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            raise ProcessEndedError(process.communicate())
        assert time.monotonic() < deadline
        time.sleep(0.001)
