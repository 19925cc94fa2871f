"""Progress on standard error: one line with a bar on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
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


class Activity:
    """What is done now and for how long, for work of unknown length: a line that moves on a terminal, else plain lines.

    A plain line comes whenever something else begins, and every few seconds while it lasts; it begins with the seconds
    since all work began. Work is never ended by its display.
    """

    def __init__(self, console: Console | None = None, *, seconds: float = SECONDS):
        """Show nothing yet.

        Args:
            console: of standard error; None makes one.
            seconds: between two plain lines about the same work.
        """
        self._what, self._first = "", time.monotonic()
        self._began = self._shown = self._first
        self._ended = threading.Event()
        self._moving: Progress | None = None
        with suppress(OSError, ValueError):  # standard error is closed
            console = console or Console(stderr=True)
            if console.is_terminal:
                columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
                self._moving = Progress(*columns, console=console, transient=True)
        if self._moving is None:
            threading.Thread(target=self._repeat, args=(seconds,), daemon=True).start()

    def __enter__(self) -> "Activity":
        """Return this."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the display."""
        self._ended.set()
        if self._moving is not None:
            self._stop()

    def __call__(self, what: str) -> None:
        """Show what is done from now on."""
        now = time.monotonic()
        self._what, self._began, self._shown = what, now, now
        if self._moving is None:
            self.note(f"{now - self._first:4.0f} s  {what}")
            return
        with suppress(OSError, ValueError):
            for task in self._moving.task_ids:
                self._moving.remove_task(task)
            self._moving.add_task(what, total=None)
            self._moving.start()

    def note(self, text: str) -> None:
        """Print a line that stays."""
        with suppress(OSError, ValueError), self.aside():
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the terminal to others, such as a table on standard output, while this lasts."""
        self._stop()
        yield
        if self._moving is not None and self._what and not self._ended.is_set():
            with suppress(OSError, ValueError):
                self._moving.start()

    def _stop(self) -> None:
        if self._moving is not None:
            with suppress(OSError, ValueError):
                self._moving.stop()

    def _repeat(self, seconds: float) -> None:
        while not self._ended.wait(min(seconds, 1.0)):
            now = time.monotonic()
            if self._what and now - self._shown >= seconds:
                self._shown = now
                self.note(f"{now - self._first:4.0f} s  {self._what}, for {now - self._began:.0f} s")
