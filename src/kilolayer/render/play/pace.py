"""When a robot's next step is due, so that it moves as fast as it would, or some times as fast."""

LAG = 0.25
"""Seconds that steps may be late; what is later is not caught up with."""


class Pace:
    """Says when steps are due, on a clock that the caller reads."""

    def __init__(self, control_step: float, speed: float):
        """Begin.

        Args:
            control_step: seconds between two actions.
            speed: times as fast as it would be.
        """
        self.control_step, self.speed = control_step, speed
        self._due: float | None = None
        self._last: float | None = None
        self.measured = speed
        """Times as fast as it would be that steps are taken, over the last ones."""

    def wait(self, now: float) -> float:
        """Return the seconds until the next step; 0 if it is due.

        Args:
            now: of the clock, in seconds.
        """
        if self._due is None:
            self._due = now
        return max(self._due - now, 0.0)

    def stepped(self, now: float) -> None:
        """Note that the step that was due has been taken."""
        due = now if self._due is None else self._due
        self._due = max(due, now - LAG) + self.control_step / self.speed
        if self._last is not None:
            # A mean over about as many steps as there are in half a second.
            passed = max(now - self._last, 1e-6)
            share = min(1.0, passed / 0.5)
            seconds = (1.0 - share) * self.control_step / self.measured + share * passed
            self.measured = self.control_step / seconds
        self._last = now

    def hold(self) -> None:
        """Forget when the next step was due: the robot is paused."""
        self._due = self._last = None
        self.measured = self.speed
