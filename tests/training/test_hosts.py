"""Two processes of this machine train a run together; one is killed, the other ends, and the run goes on."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import kilolayer as kl
from kilolayer.named_arrays import to_arrays
from kilolayer.runs import RunDirectory
from small_runs import final_state, flags

LIMIT = 60.0
"""Seconds for which a process is waited for after another one ended."""

SIZES = {"width": 8, "num_envs": 4, "num_eval_envs": 4, "gradient_steps_per_unroll": 1, "num_evals": 200}


def start(place: Path, *words: str) -> list[subprocess.Popen]:
    """Start two processes that train together; process 0 prints to the files `out-0` and `error-0` of a directory."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    source = str(Path(__file__).parents[2] / "src")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    joined = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", "2", "--process-id"]
    processes = []
    for process in range(2):
        with open(place / f"out-{process}", "w") as out, open(place / f"error-{process}", "w") as error:
            command = [sys.executable, "-m", "kilolayer", "train", *words, *joined, str(process)]
            processes.append(subprocess.Popen(command, env=environment, stdout=out, stderr=error))
    return processes


def wait_for_checkpoints(run: Path, count: int, processes: list[subprocess.Popen]) -> None:
    while len([path for path in (run / "checkpoints").glob("*") if path.name.isdecimal()]) < count:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_one_that_is_killed_ends_the_other_and_the_run_goes_on(tmp_path, killed):
    run = tmp_path / "run"
    processes = start(
        tmp_path, "point_u_maze", *flags(**SIZES, total_env_steps=80_000), "--devices=2", f"--run-dir={run}"
    )
    wait_for_checkpoints(run, 2, processes)
    processes[killed].send_signal(signal.SIGKILL)
    assert processes[1 - killed].wait(timeout=LIMIT) != 0
    processes[killed].wait()
    said = (tmp_path / f"error-{1 - killed}").read_text()
    assert said.splitlines()[-1].startswith(f"kilolayer: error: process {killed} ")
    assert said.splitlines()[-1].endswith("resume from the last checkpoint, which is whole")
    assert [row["env_steps"] for row in RunDirectory.open(run).metrics()][:2] == [0, 400]

    config = RunDirectory.open(run).config()
    alone = dataclasses.replace(config, devices=1, shards=2, total_env_steps=400, num_evals=1)
    kl.train(config=alone, run_dir=tmp_path / "alone", progress=False)
    ours, theirs = (to_arrays(final_state(path, 400).agent) for path in (run, tmp_path / "alone"))
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-4, err_msg=name)

    state = final_state(run)  # whole: its checksums agree
    end = state.env_steps + 200
    done = start(tmp_path, "--resume", str(run), f"--total-env-steps={end}")
    assert [process.wait() for process in done] == [0, 0]
    assert [(tmp_path / f"out-{process}").read_text() == "" for process in range(2)] == [False, True]
    assert final_state(run).env_steps == end

    subprocess.run(
        [
            sys.executable,
            "-m",
            "kilolayer",
            "train",
            "--resume",
            str(run),
            "--devices=1",
            f"--total-env-steps={end + 40}",
        ],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        check=True,
    )
    assert final_state(run).env_steps == end + 40
    assert RunDirectory.open(run).config().num_shards == 2
