"""Seconds from the start of a training command until its first gradient steps are done."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kilolayer.compilation_cache import VARIABLE
from kilolayer.errors import KilolayerError
from kilolayer.runs import RunDirectory, default_config

TrainCommand = Callable[[Mapping[str, Any], Path], Sequence[str]]
"""Returns the command that trains with settings in a run directory."""


class FirstStep(NamedTuple):
    """How long a command took until its first round of gradient steps was done."""

    seconds: float
    engine: str
    """That the run took."""


def time_to_first_step(
    settings: Mapping[str, Any], command: TrainCommand, place: Path, *, seconds: float | None = None
) -> FirstStep:
    """Run a training command until its first round of gradient steps, in a process of its own.

    The command evaluates, collects until there is enough data, learns for one round, and evaluates again, which is when
    it writes its metrics; that evaluation is not counted.

    Args:
        settings: of the run; see `until_first_step`.
        command: that trains.
        place: a directory for the run, and for compiled programs: the second run in it finds those of the first.
        seconds: give up after so many.

    Raises:
        KilolayerError: if the command fails or its time is over.
    """
    directory = place / f"run-{len(list(place.glob('run-*')))}"
    environment = os.environ | {VARIABLE: str(place / "compiled")}
    began = time.time()
    try:
        done = subprocess.run(
            command(settings, directory), capture_output=True, text=True, timeout=seconds, env=environment
        )
    except subprocess.TimeoutExpired:
        raise KilolayerError("the run until the first gradient step failed: its time was over") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise KilolayerError(f"the run until the first gradient step failed: {reason}")
    run = RunDirectory.open(directory)
    behind = run.metrics()[-1]["perf/eval_seconds"]
    return FirstStep(run.metrics_file.stat().st_mtime - behind - began, run.config().engine)


def until_first_step(settings: Mapping[str, Any], engine: str) -> dict[str, Any]:
    """Return the settings of a run that ends behind its first round of gradient steps.

    Args:
        settings: as `default_config` takes them, without an engine.
        engine: any that the task runs on; the run itself chooses its own.
    """
    full = default_config(**settings, engine=engine)
    return {**settings, "total_env_steps": full.prefill_env_steps + full.env_steps_per_unroll, "num_evals": 1}
