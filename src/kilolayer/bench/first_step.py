"""Seconds from the start of a training command until its first gradient steps are done."""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kilolayer.compilation_cache import VARIABLE
from kilolayer.errors import KilolayerError
from kilolayer.files import write_json
from kilolayer.runs import RunDirectory, TrainConfig, default_config

TrainCommand = Callable[[Path, Path], Sequence[str]]
"""Returns the command that trains with the configuration in a file, in a run directory."""


def first_step_seconds(
    config: TrainConfig, command: TrainCommand, place: Path, *, seconds: float | None = None
) -> float:
    """Run a training command until its first round of gradient steps, in a process of its own.

    The command evaluates, collects until there is enough data, learns for one round, and evaluates again, which is when
    it writes its metrics; that evaluation is not counted.

    Args:
        config: of the run; see `until_first_step`.
        command: that trains.
        place: a directory for the run, and for compiled programs: the second run in it finds those of the first.
        seconds: give up after so many.

    Raises:
        KilolayerError: if the command fails or its time is over.
    """
    file = place / "config.json"
    write_json(file, config.to_dict())
    directory = place / f"run-{len(list(place.glob('run-*')))}"
    environment = os.environ | {VARIABLE: str(place / "compiled")}
    began = time.time()
    try:
        done = subprocess.run(
            command(file, directory), capture_output=True, text=True, timeout=seconds, env=environment
        )
    except subprocess.TimeoutExpired:
        raise KilolayerError("the run until the first gradient step failed: its time was over") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise KilolayerError(f"the run until the first gradient step failed: {reason}")
    run = RunDirectory.open(directory)
    return run.metrics_file.stat().st_mtime - run.metrics()[-1]["perf/eval_seconds"] - began


def until_first_step(**settings: object) -> TrainConfig:
    """Return the configuration of a run that ends behind its first round of gradient steps."""
    full = default_config(**settings)  # type: ignore[arg-type]
    steps = full.prefill_env_steps + full.env_steps_per_unroll
    return default_config(**settings, total_env_steps=steps, num_evals=1)  # type: ignore[arg-type]
