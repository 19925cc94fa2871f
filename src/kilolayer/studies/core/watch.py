"""Watching cases that are trained elsewhere, in other processes or on other machines."""

import time
from collections.abc import Callable, Sequence

from kilolayer.errors import ConfigurationError
from kilolayer.studies.core.run import Work

POLL_SECONDS = 0.5
"""How often those who train are asked whether they ended."""

TELL_SECONDS = 10.0
"""How often a user is told how far they are."""


def check_jobs(jobs: int) -> None:
    """Refuse that nothing may run.

    Raises:
        ConfigurationError: if `jobs` is below 1.
    """
    if jobs < 1:
        raise ConfigurationError(f"jobs={jobs} must be at least 1")


class Progress:
    """Says now and then how far cases are that are trained elsewhere, and what remains."""

    def __init__(self, works: Sequence[Work], tell: Callable[[str], object]):
        """Begin to watch."""
        self._total, self._tell = len(works), tell
        self._began = self._last = time.monotonic()
        self._ended = 0
        self._share_before = sum(work.share for work in works)

    def ended(self, work: Work) -> None:
        """Note that a case ended."""
        self._ended += 1
        self._tell(f"{self._ended} of {self._total} cases ended, {work.case.name}")

    def tell(self, running: Sequence[Work]) -> None:
        """Say how far the running cases are, if it was long ago."""
        now = time.monotonic()
        if not running or now - self._last < TELL_SECONDS:
            return
        self._last = now
        shares = {work.case.name: work.share for work in running}
        begun = [f"{name} {share:.0%}" for name, share in shares.items() if share > 0.0]
        done = self._ended + sum(shares.values())
        speed = (done - self._share_before) / (now - self._began)
        eta = f"; ETA {(self._total - done) / speed / 60.0:.0f} min" if speed > 0.0 else ""
        self._tell(f"{self._ended} of {self._total} cases ended; {', '.join(begun) or 'compiling'}{eta}")
