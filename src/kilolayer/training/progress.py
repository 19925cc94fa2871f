"""The progress display: one line that stays on a terminal, plain lines elsewhere."""

import sys
import time
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
    """Speed and remaining time of a run that began, or went on, at `start` of `total` env steps."""

    def __init__(self, total: int, start: int):
        """Start the clock."""
        self.total, self.start = total, start
        self._began = time.monotonic()

    def speed(self, env_steps: int) -> float:
        """Return env steps per second since the start."""
        return (env_steps - self.start) / max(time.monotonic() - self._began, 1e-9)

    def eta(self, env_steps: int) -> str:
        """Return the time that remains, as minutes and seconds."""
        speed = self.speed(env_steps)
        if speed <= 0.0:
            return "--:--"
        minutes, seconds = divmod(int(max(self.total - env_steps, 0) / speed), 60)
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
        if time.monotonic() - self._last >= self._seconds:
            self._last = time.monotonic()
            share = min(env_steps / self._clock.total, 1.0)
            self.note(
                f"{share:4.0%}  {env_steps:,} env steps  {self._clock.speed(env_steps):,.0f}/s  "
                f"ETA {self._clock.eta(env_steps)}  success {_success(success)}"
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
        self._task = self._progress.add_task("", total=clock.total, completed=clock.start, text="compiling")
        self._progress.start()

    def update(self, env_steps: int, success: float | None) -> None:
        """Move the bar."""
        share = min(env_steps / self._clock.total, 1.0)
        text = (
            f"{share:.0%}  ETA {self._clock.eta(env_steps)}  {self._clock.speed(env_steps):,.0f} steps/s  "
            f"success {_success(success)}"
        )
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
