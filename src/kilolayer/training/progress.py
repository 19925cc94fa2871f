"""The progress display: one line that stays on a terminal, plain lines elsewhere."""

import sys
import time
from collections import deque
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text


class ProgressDisplay(Protocol):
    """Shows how far a run is."""

    def update(self, env_steps: int, success: float | None) -> None:
        """Show progress after a training step; `success` is that of the last evaluation, if there was one."""
        ...

    def note(self, text: str) -> None:
        """Print a line that stays."""
        ...

    def close(self) -> None:
        """End the display."""
        ...


class Silent:
    """Shows nothing."""

    def update(self, env_steps: int, success: float | None) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Clock:
    """Speed over the last steps, and what remains at that speed, of a run of `total` env steps."""

    WINDOW = 20
    """Training steps that the speed is taken over: compiling counts for the first few alone."""

    def __init__(self, total: int, start: int):
        """Start the clock at `start` env steps."""
        self.total = total
        self._marks = deque([(time.monotonic(), start)], maxlen=self.WINDOW)

    def mark(self, env_steps: int) -> None:
        """Note that the run is at `env_steps` now."""
        self._marks.append((time.monotonic(), env_steps))

    @property
    def share(self) -> float:
        """How much of the run is done, from 0 to 1."""
        return min(self._marks[-1][1] / self.total, 1.0)

    @property
    def speed(self) -> float:
        """Env steps per second."""
        (began, first), (now, last) = self._marks[0], self._marks[-1]
        return (last - first) / max(now - began, 1e-9)

    @property
    def eta(self) -> str:
        """The time that remains, as hours, minutes and seconds."""
        if self.speed <= 0.0:
            return "--:--"
        minutes, seconds = divmod(round(max(self.total - self._marks[-1][1], 0) / self.speed), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"


def _success(success: float | None) -> str:
    return "--" if success is None else f"{success:.2f}"


class Lines:
    """A plain line every `seconds`, for logs and pipes."""

    def __init__(self, clock: Clock, *, seconds: float = 10.0):
        """Print to standard error."""
        self._clock, self._seconds = clock, seconds
        self._last = time.monotonic()

    def update(self, env_steps: int, success: float | None) -> None:
        """Print a line if the last is long enough ago."""
        clock = self._clock
        clock.mark(env_steps)
        if time.monotonic() - self._last >= self._seconds:
            self._last = time.monotonic()
            self.note(
                f"{clock.share:4.0%}  {env_steps:,} env steps  {clock.speed:,.0f}/s  ETA {clock.eta}  "
                f"success {_success(success)}"
            )

    def note(self, text: str) -> None:
        """Print a line."""
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing is left open."""


class Bar:
    """One line with a bar, ETA, speed and success."""

    def __init__(self, clock: Clock, console: Console):
        """Begin to draw on `console`."""
        self._clock = clock

        class Numbers(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(task.fields["text"])

        self._progress = Progress(TextColumn("training"), BarColumn(), Numbers(), console=console, transient=True)
        self._task = self._progress.add_task("", total=clock.total, text="compiling")
        self._progress.start()

    def update(self, env_steps: int, success: float | None) -> None:
        """Move the bar."""
        clock = self._clock
        clock.mark(env_steps)
        text = f"{clock.share:.0%}  ETA {clock.eta}  {clock.speed:,.0f} steps/s  success {_success(success)}"
        self._progress.update(self._task, completed=env_steps, text=text)

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        """Remove the bar."""
        self._progress.stop()


def progress_display(total: int, start: int) -> ProgressDisplay:
    """Return the display that suits standard error: a bar on a terminal, plain lines elsewhere."""
    console = Console(stderr=True)
    clock = Clock(total, start)
    return Bar(clock, console) if console.is_terminal else Lines(clock)
