"""A budget of time for measurements: which of them still fit, judged by what those before have taken."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Budget:
    """Seconds to measure in, and what measurements of each kind have taken of them."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic):
        """Start the clock.

        Args:
            seconds: for everything.
            clock: returns the time, in seconds.
        """
        self._clock, self._end = clock, clock() + seconds
        self._taken: dict[str, list[float]] = {}

    @property
    def left(self) -> float:
        """Seconds that are left; below 0 when the time is over."""
        return self._end - self._clock()

    def expected(self, kind: str) -> float:
        """Return how many seconds a measurement of a kind will take.

        That is as long as the longest one of its kind; of the first of a kind, the median of all others; of the first
        of all, nothing is known, and 0 is returned.
        """
        if kind in self._taken:
            return max(self._taken[kind])
        known = [seconds for each in self._taken.values() for seconds in each]
        return statistics.median(known) if known else 0.0

    def fits(self, kind: str) -> bool:
        """Return whether a measurement of a kind will end in time."""
        return self.left > 0.0 and self.expected(kind) <= self.left

    @contextmanager
    def spent_on(self, kind: str) -> Iterator[None]:
        """Count the time that passes as that of a measurement of a kind, also if it fails."""
        began = self._clock()
        try:
            yield
        finally:
            self._taken.setdefault(kind, []).append(self._clock() - began)
