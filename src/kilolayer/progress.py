"""Progress on standard error: one line with a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

SECONDS = 10.0
"""Between two plain lines."""


class Display(Protocol):
    """Shows how much of some work is done."""

    def update(self, done: int, status: str = "") -> None:
        """Show that `done` steps are done.

        Args:
            done: steps so far.
            status: shown at the end of the line.
        """
        ...

    def note(self, text: str) -> None:
        """Print a line that stays."""
        ...

    def close(self) -> None:
        """Remove the display."""
        ...


class Silent:
    """Shows nothing."""

    def update(self, done: int, status: str = "") -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Guarded:
    """Another display, until it cannot be written: a pipe that closed, a full disk, a lost terminal. Then nothing.

    Work is never ended by its display.
    """

    def __init__(self, display: Display):
        """Show what `display` shows, as long as it can."""
        self._display = display

    def update(self, done: int, status: str = "") -> None:
        """See `Display`."""
        with self._faults():
            self._display.update(done, status)

    def note(self, text: str) -> None:
        """See `Display`."""
        with self._faults():
            self._display.note(text)

    def close(self) -> None:
        """See `Display`."""
        with self._faults():
            self._display.close()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):  # ValueError: the stream was closed
            self._display = Silent()


class Pace:
    """The speed of the last updates, and the time that remains at that speed.

    Attributes:
        total: steps of the whole work.
        done: steps so far.
    """

    WINDOW = 20
    """Updates that the speed is taken over, so that compilation affects only the first few."""

    def __init__(self, total: int, start: int = 0):
        """Start measuring when `start` of `total` steps are done."""
        self.total, self.done = max(total, 1), start
        self._marks = deque([(time.monotonic(), start)], maxlen=self.WINDOW)

    def mark(self, done: int) -> None:
        """Record that `done` steps are done now."""
        self.done = done
        self._marks.append((time.monotonic(), done))

    @property
    def share(self) -> float:
        """How much of the work is done, from 0 to 1."""
        return min(self.done / self.total, 1.0)

    @property
    def speed(self) -> float:
        """Steps per second."""
        (began, first), (now, last) = self._marks[0], self._marks[-1]
        return (last - first) / max(now - began, 1e-9)

    @property
    def eta(self) -> str:
        """The time that remains, as hours, minutes and seconds."""
        if self.speed <= 0.0:
            return "--:--"
        minutes, seconds = divmod(round(max(self.total - self.done, 0) / self.speed), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"


class Lines:
    """A plain line every few seconds, for logs and pipes."""

    def __init__(self, label: str, pace: Pace, *, unit: str = "steps", seconds: float = SECONDS):
        """Print to standard error.

        Args:
            label: what is done, such as training.
            pace: of the work.
            unit: what the steps are, such as env steps.
            seconds: between two lines.
        """
        self._label, self._pace, self._unit, self._seconds = label, pace, unit, seconds
        self._last = time.monotonic()

    def update(self, done: int, status: str = "") -> None:
        """Print a line if the last one is old enough."""
        pace = self._pace
        pace.mark(done)
        if time.monotonic() - self._last >= self._seconds:
            self._last = time.monotonic()
            numbers = f"{pace.share:4.0%}  {done:,} {self._unit}  {pace.speed:,.0f}/s  ETA {pace.eta}"
            self.note(f"{self._label} {numbers}  {status}".rstrip())

    def note(self, text: str) -> None:
        """Print a line."""
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Do nothing."""


class Bar:
    """One line with a bar, ETA, speed and status, for terminals."""

    def __init__(self, label: str, pace: Pace, console: Console):
        """Begin to draw on `console`."""
        self._pace = pace

        class Numbers(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(task.fields["text"])

        self._progress = Progress(TextColumn(label), BarColumn(), Numbers(), console=console, transient=True)
        self._task = self._progress.add_task("", total=pace.total, completed=pace.done, text="compiling")
        self._progress.start()

    def update(self, done: int, status: str = "") -> None:
        """Move the bar."""
        pace = self._pace
        pace.mark(done)
        text = f"{pace.share:.0%}  ETA {pace.eta}  {pace.speed:,.0f} steps/s  {status}".rstrip()
        self._progress.update(self._task, completed=done, text=text)

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        """Remove the bar."""
        self._progress.stop()


def progress_display(label: str, total: int, *, start: int = 0, unit: str = "steps") -> Display:
    """Return the display that suits standard error: a bar on a terminal, plain lines elsewhere.

    Args:
        label: what is done, such as training.
        total: steps of the whole work.
        start: steps that are done already.
        unit: what the steps are, such as env steps.
    """
    pace = Pace(total, start)
    try:
        console = Console(stderr=True)
        return Guarded(Bar(label, pace, console) if console.is_terminal else Lines(label, pace, unit=unit))
    except (OSError, ValueError):  # standard error is closed
        return Silent()


@contextmanager
def counted(label: str, total: int, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Show the progress of work that is counted in steps.

    Args:
        label: what is done, such as drawing.
        total: steps of the whole work.
        shown: show something at all.

    Yields:
        A function that takes how many more steps are done.
    """
    display = progress_display(label, total) if shown else Silent()
    done = 0

    def advance(steps: int) -> None:
        nonlocal done
        done += steps
        display.update(done)

    with closing(display):
        yield advance
