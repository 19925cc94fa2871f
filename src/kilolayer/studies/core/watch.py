"""Progress of cases that train in other processes or on other machines."""

import time
from collections.abc import Callable, Sequence

from kilolayer.errors import ConfigurationError
from kilolayer.studies.core.run import Work

POLL_SECONDS = 0.5
"""Time between two checks whether a case has ended."""

LOG_SECONDS = 10.0
"""Least time between two lines of progress."""


def check_jobs(jobs: int) -> None:
    """Validate the number of jobs.

    Raises:
        ConfigurationError: if `jobs` is below 1.
    """
    if jobs < 1:
        raise ConfigurationError(f"jobs={jobs} must be at least 1")


class Progress:
    """Logs how far the running cases are, how many have ended, and the estimated time that remains."""

    def __init__(
        self, works: Sequence[Work], log: Callable[[str], object], *, total: int | None = None, what: str = "cases"
    ):
        """Start the clock.

        Args:
            works: all cases to train, or those of them that are known.
            log: called with each line.
            total: number of cases; None takes those of `works`.
            what: they are called.
        """
        self._total, self._what, self._log = len(works) if total is None else total, what, log
        self._began = self._last = time.monotonic()
        self._ended = 0
        self._share_before = sum(work.share for work in works)

    def end(self, name: str, remark: str = "") -> None:
        """Count a case that ended and log it.

        Args:
            name: of the case.
            remark: how it ended.
        """
        self._ended += 1
        self._log(f"{self._ended} of {self._total} {self._what} ended, {name}{remark}")

    def update(self, running: Sequence[Work]) -> None:
        """Log the progress of the running cases, at most once in `LOG_SECONDS`."""
        now = time.monotonic()
        if not running or now - self._last < LOG_SECONDS:
            return
        self._last = now
        shares = {work.name: work.share for work in running}
        begun = [f"{name} {share:.0%}" for name, share in shares.items() if share > 0.0]
        done = self._ended + sum(shares.values())
        speed = (done - self._share_before) / (now - self._began)
        eta = f"; ETA {(self._total - done) / speed / 60.0:.0f} min" if speed > 0.0 else ""
        self._log(f"{self._ended} of {self._total} {self._what} ended; {', '.join(begun) or 'compiling'}{eta}")
