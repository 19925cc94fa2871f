"""Measurements of several kinds, one after the other, as far as a budget of time allows."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from kilolayer.bench.budget import Budget
from kilolayer.bench.step import Turns
from kilolayer.errors import KilolayerError


@dataclasses.dataclass(frozen=True)
class GpuRow:
    """One line of the table, and of the file of results."""

    part: str
    """What it belongs to: one of the parts of `kilolayer.bench.gpu_plan`."""
    what: str
    """Form of the step, engine, or the like."""
    task: str | None = None
    depth: int | None = None
    batch_size: int | None = None
    width: int | None = None
    seconds: float | None = None
    """Time of a gradient step, of a round, of a control step of all robots, of an action, or until the first gradient
    steps are done. None if it was not measured."""
    per_second: float | None = None
    """Gradient steps, env steps or actions per second."""
    ratio: float | None = None
    """Of a gradient step: its time divided by that of the first form at this depth, in the same rounds. Of `spread`:
    the time of the slowest process so far divided by that of the fastest."""
    compile_seconds: float | None = None
    peak_bytes: int | None = None
    took_seconds: float | None = None
    """Time that measuring took, with all others of the same process."""
    left_out: str = ""
    """Why it was not measured."""
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """All that was measured."""


class Job(NamedTuple):
    """A measurement to do."""

    row: GpuRow
    """What is known before."""
    kind: str
    """Measurements of the same kind take about as long."""
    run: Callable[[float], Iterable[Mapping[str, Any]]]
    """Measures in so many seconds at most, and returns for each row the fields to change."""
    turns: Turns | None = None
    """Closed when a job with others comes."""


def run_jobs(jobs: Iterable[Job], budget: Budget) -> Iterator[GpuRow]:
    """Do what fits into the budget; a job that does not fit, or fails, gives a row that says so."""
    turns: Turns | None = None
    try:
        for job in jobs:
            if turns is not None and job.turns is not turns:
                turns.close()
            turns = job.turns
            if not budget.fits(job.kind):
                why = f"no time: {max(budget.left, 0.0):.0f} s are left, and it takes about"
                yield dataclasses.replace(job.row, left_out=f"{why} {budget.expected(job.kind):.0f}")
                continue
            left = budget.left
            try:
                with budget.spent_on(job.kind):
                    measured = list(job.run(left))
            except KilolayerError as error:
                yield dataclasses.replace(job.row, left_out=str(error), took_seconds=left - budget.left)
                continue
            for fields in measured:
                yield dataclasses.replace(job.row, **fields, took_seconds=left - budget.left)
    finally:
        if turns is not None:
            turns.close()
