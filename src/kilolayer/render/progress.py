"""Progress of work that is counted in steps: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

SECONDS = 10.0
"""Seconds between two plain lines."""


@contextmanager
def counted(label: str, total: int, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Show progress on standard error.

    Args:
        label: name of the work.
        total: total number of steps.
        shown: False shows nothing.

    Yields:
        A function to call with the number of completed steps.
    """
    console = Console(stderr=True)
    if not shown:
        yield lambda steps: None
    elif console.is_terminal:
        columns = (TextColumn(label), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=total)
            yield lambda steps: progress.advance(task, steps)
    else:
        yield _lines(label, total)


def _lines(label: str, total: int) -> Callable[[int], None]:
    began = last = time.monotonic()
    done = 0

    def advance(steps: int) -> None:
        nonlocal done, last
        done += steps
        now = time.monotonic()
        if now - last >= SECONDS:
            last = now
            left = (now - began) * (total - done) / done
            print(f"{label} {done / total:4.0%}  ETA {left:,.0f} s", file=sys.stderr, flush=True)

    return advance
