"""What decides about training on a GPU, measured within a budget of time, and written as soon as it is measured.

Every measurement runs in a process of its own; this process does not touch the GPU.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from kilolayer.bench.budget import Budget
from kilolayer.bench.first_step import TrainCommand
from kilolayer.bench.gpu_plan import PARTS, Plan, Sizes
from kilolayer.bench.jobs import GpuRow, run_jobs
from kilolayer.bench.process import run_apart
from kilolayer.errors import ConfigurationError, nearest_names
from kilolayer.files import append_line, json_text, unfinished_line
from kilolayer.system import describe_system

FILE = "gpu.jsonl"
"""Name of the file of results: a JSON object in each line."""

Log = Callable[[str], object]


def bench_gpu(
    seconds: float,
    *,
    train_command: TrainCommand,
    sizes: Sizes | None = None,
    parts: Sequence[str] = (),
    results: Path | None = None,
    log: Log = id,
    note: Log = id,
) -> Iterator[GpuRow]:
    """Measure what fits into a budget of time.

    A measurement does not start if those before of its kind took longer than the time that is left, and is ended when
    the time is over. What is left out has a row that says why.

    Args:
        seconds: the budget.
        train_command: returns the command that trains.
        sizes: what is measured; None takes the defaults.
        parts: names in `PARTS`, in the order to measure them; empty takes all, the most valuable first.
        results: directory with the file to append each row to, as soon as it is measured; None writes nothing.
        log: called with a line before each stage.
        note: called with a line that should stay.

    Returns:
        An iterator that measures as it is read.

    Raises:
        ConfigurationError: at the call, for an unknown part or a budget that is not above 0.
        OSError: at the call, if the directory cannot be made; while measuring, if a row cannot be written.
    """
    if not seconds > 0.0:
        raise ConfigurationError(f"budget={seconds:g} must be above 0 seconds")
    for part in parts:
        if part not in PARTS:
            raise ConfigurationError(f"part={part!r} is unknown; {nearest_names(part, PARTS)}")
    if results is not None:
        results.mkdir(parents=True, exist_ok=True)
    return _measure(Budget(seconds), parts or tuple(PARTS), sizes or Sizes(), train_command, results, log, note)


def _measure(
    budget: Budget,
    parts: Sequence[str],
    sizes: Sizes,
    train_command: TrainCommand,
    results: Path | None,
    log: Log,
    note: Log,
) -> Iterator[GpuRow]:
    log("looking at the machine")
    found = run_apart(f"{__name__}:machine", {})
    on_gpu = found["backend"] == "gpu"
    if not on_gpu:
        note(f"there is no GPU: these are figures of {found['system']['cpu']}")
    plan = Plan(sizes, train_command, log, on_gpu=on_gpu)
    for row in run_jobs((job for part in parts for job in PARTS[part](plan)), budget):
        if results is not None:
            record(results / FILE, row, found["system"])
        yield row


def machine() -> dict[str, Any]:
    """Return the kind of device that this process uses, and the description of the system."""
    return {"backend": jax.default_backend(), "system": describe_system()}


def record(path: Path, row: GpuRow, system: Mapping[str, Any]) -> None:
    """Append a row to a file, with the date and the system; it is on the disk when this returns."""
    begin = "\n" if unfinished_line(path) else ""  # of a process that was killed while it wrote
    date = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    append_line(
        path, begin + json_text({"date": date, **dataclasses.asdict(row), "system": system}, indent=None) + "\n"
    )
