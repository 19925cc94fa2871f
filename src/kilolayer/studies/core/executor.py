"""Train cases elsewhere: what processes of this machine, jobs of a cluster and tasks of Ray have in common."""

import abc
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from kilolayer.studies.core.run import StudyStoppedError, Work
from kilolayer.studies.core.watch import POLL_SECONDS, Progress, check_jobs
from kilolayer.training.interrupts import StopRequest


class Job(abc.ABC):
    """A case that trains elsewhere."""

    @abc.abstractmethod
    def has_ended(self) -> bool:
        """Return whether it ended, in whatever way."""

    @abc.abstractmethod
    def failure(self) -> str | None:
        """Return in one line why a job that ended did not train its case to the end; None if it did."""

    @property
    @abc.abstractmethod
    def was_interrupted(self) -> bool:
        """Whether a job that ended was stopped from outside, so that it resumes if it is started again."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Ask it to save and end, and do not wait for that."""

    @abc.abstractmethod
    def join(self) -> None:
        """Wait until a job that was asked to stop has saved, if it would not be let to do so alone."""


class Executor(abc.ABC):
    """A place to train cases, each in a job. It is a way to train a study: see `Workers`.

    Attributes:
        jobs: the largest number of jobs at once.
        queues: it takes any number of cases, and runs `jobs` of them at once by itself.
    """

    queues = False

    def __init__(self, jobs: int):
        """Take the largest number of jobs at once.

        Raises:
            ConfigurationError: if it is below 1.
        """
        check_jobs(jobs)
        self.jobs = jobs

    @abc.abstractmethod
    def start(self, works: Sequence[Work], log: Callable[[str], object]) -> Sequence[Job]:
        """Start a job for each of these cases, all of one directory.

        Args:
            works: cases; at most as many as there are jobs left, unless the executor queues.
            log: called with lines about where the jobs are.

        Raises:
            ConfigurationError: for parameters that the place does not take.
            RunError: if the place refuses the jobs, or a directory cannot be written.
        """

    def __enter__(self) -> Self:
        """Connect to the place."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the place; all jobs have ended or were asked to stop."""
        return None

    def __call__(self, works: Sequence[Work], log: Callable[[str], object]) -> Iterator[tuple[Work, str | None]]:
        """Train all cases; see `Workers`. A signal stops the jobs, which save."""
        waiting = deque(works)
        running: dict[Job, Work] = {}
        progress = Progress(works, log)
        with self, StopRequest() as stop:
            try:
                while waiting or running:
                    free = len(waiting) if self.queues else self.jobs - len(running)
                    batch = [waiting.popleft() for _ in range(min(free, len(waiting)))]
                    if batch:
                        running.update(zip(self.start(batch, log), batch, strict=True))
                    self.wait(list(running))
                    if stop.signal is not None:
                        raise StudyStoppedError(works[0].directory, stop.signal)
                    for job in [one for one in running if one.has_ended()]:
                        work = running.pop(job)
                        progress.end(work.name)
                        yield work, job.failure()
                    progress.update(list(running.values()))
            finally:
                stop_all(list(running))

    def wait(self, running: Sequence[Job]) -> None:
        """Wait until one of some jobs may have ended, for `POLL_SECONDS` at most."""
        time.sleep(POLL_SECONDS)


def stop_all(jobs: Sequence[Job]) -> None:
    """Stop jobs, and wait until they have saved."""
    for job in jobs:
        job.stop()
    for job in jobs:
        job.join()
