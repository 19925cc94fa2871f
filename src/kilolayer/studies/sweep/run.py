"""Run a sweep: choose trials, train them in jobs, prune those that fall behind, and resume what was stopped."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilolayer.errors import ConfigurationError, TrainingError
from kilolayer.runs import Clocks
from kilolayer.settings import check_count
from kilolayer.studies.core.executor import Executor, Job, stop_all
from kilolayer.studies.core.run import StudyStoppedError
from kilolayer.studies.core.watch import POLL_SECONDS, Progress
from kilolayer.studies.sweep.plan import Sweep, trial_name
from kilolayer.training.interrupts import StopRequest

if TYPE_CHECKING:
    from kilolayer.studies.sweep.journal import Journal, Trial


def open_journal(sweep: Sweep, directory: str | os.PathLike) -> "Journal":
    """Open the journal of a sweep, or begin the sweep in a directory.

    Raises:
        ConfigurationError: if Optuna is not installed, or the directory holds another sweep.
        RunError: if the directory cannot be read or written.
    """
    try:
        from kilolayer.studies.sweep.journal import Journal
    except ModuleNotFoundError:
        raise ConfigurationError("a sweep needs optuna; install it with `pip install 'kilolayer[sweep]'`") from None
    sweep.keep_at(Path(directory))
    return Journal(sweep, Path(directory))


def run_sweep(
    sweep: Sweep,
    directory: str | os.PathLike,
    trials: int,
    *,
    executor: Executor,
    log: Callable[[str], object] = id,
) -> Iterator["Journal"]:
    """Run a sweep, or resume it, until it has so many trials.

    Several processes, also of several machines with one file system, can run the same sweep at once: each trains
    trials of its own.

    Args:
        sweep: what is swept.
        directory: of the sweep.
        trials: to choose in all, those of other processes and of earlier calls included.
        executor: where to train, and how many trials at once.
        log: called with lines about progress.

    Yields:
        The journal, whenever a trial has ended.

    Raises:
        ConfigurationError: if the directory holds another sweep, or the evaluations have no such metric.
        StudyStoppedError: if a signal stopped the sweep. Its runs are saved.
        TrainingError: at the end, if trials were interrupted, or no trial could be trained.
    """
    check_count("trials", trials)
    with open_journal(sweep, directory) as journal, StopRequest() as stop:
        driver = _Driver(journal, trials, executor, lambda text: log(f"sweep: {text}"))
        with ExitStack() as stack:
            stack.callback(driver.stop)
            if driver.go_on():  # else the place is not needed
                stack.enter_context(executor)
                stack.callback(driver.stop)
            while driver.go_on():
                yield from (journal for _ in range(driver.step()))
                if stop.signal is not None:
                    raise StudyStoppedError(Path(directory), stop.signal)
    driver.conclude()


@dataclasses.dataclass
class _Training:
    """A trial of this process."""

    trial: "Trial"
    job: Job | None = None
    """None before its job begins: a process that was killed may still be saving."""
    was_told: bool = False
    """How it ended is in the journal; the job may still be saving."""


class _Driver:
    """Trains trials of a sweep in the jobs of an executor."""

    def __init__(self, journal: "Journal", trials: int, executor: Executor, log: Callable[[str], object]):
        self._journal, self._trials, self._executor, self._log = journal, trials, executor, log
        self._sweep = journal.sweep
        self._running: list[_Training] = []
        self._interrupted: dict[int, str] = {}
        known = journal.trials()
        self._progress = Progress([], log, total=trials - sum(one.state.is_finished() for one in known), what="trials")
        if known:
            log(f"{len(known)} trials begun before")

    def go_on(self) -> bool:
        """Fill free places with trials; return whether any is left to train."""
        while len(self._running) < self._executor.jobs and (trial := self._journal.next(self._trials)) is not None:
            self._running.append(_Training(trial))
        return bool(self._running)

    def step(self) -> int:
        """Start, watch and end the jobs of the trials; return how many trials ended."""
        ended = [one for one in self._running if self._has_ended(one)]
        for one in ended:
            self._running.remove(one)
            one.trial.close()
        jobs = [one.job for one in self._running if one.job is not None]
        if jobs and not ended:
            self._executor.wait(jobs)
        elif not ended:
            time.sleep(POLL_SECONDS)
        self._progress.update([one.trial.work for one in self._running if one.job is not None and not one.was_told])
        return len(ended)

    def stop(self) -> None:
        """Stop the jobs and let go of all trials; those that have not ended resume later."""
        stop_all([one.job for one in self._running if one.job is not None])
        for one in self._running:
            one.trial.close()
        self._running = []

    def conclude(self) -> None:
        """Say what is left; raise if the sweep has no result, or trials that do not end by themselves."""
        known = self._journal.trials()
        if len(known) < self._trials and self._journal.is_exhausted:
            self._log(f"every combination of the space was tried, in {len(known)} trials")
        elsewhere = [one.number for one in known if not one.state.is_finished() and one.number not in self._interrupted]
        if elsewhere:
            self._log(f"other processes train {', '.join(map(trial_name, elsewhere))}")
        if self._interrupted:
            told = ", ".join(f"{trial_name(number)} ({reason})" for number, reason in self._interrupted.items())
            raise TrainingError(f"sweep: interrupted: {told}; the same sweep, started again, resumes them")
        if {one.state.name for one in known} == {"FAIL"}:
            raise TrainingError(f"sweep: no trial could be trained; why is said in {self._journal.directory}")

    def _has_ended(self, one: _Training) -> bool:
        """Take an ended job, or the next step of a trial; return whether the trial is done with."""
        trial, work = one.trial, one.trial.work
        failure = None
        if one.job is not None:
            if not one.job.has_ended():
                if not one.was_told and self._observe(one):
                    one.job.stop()
                return False
            failure, interrupted = one.job.failure(), one.job.was_interrupted
            if one.was_told:
                return True
            if failure is not None and interrupted:
                self._log(f"{work.name} was interrupted: {failure}")
                self._interrupted[trial.number] = failure
                self._journal.give_up(trial)
                return True
        elif (twin := self._journal.twin(trial)) is not None:
            trial.repeat(twin)
            self._progress.end(work.name, f": has the settings of {trial_name(twin.number)}")
            return True
        elif work.is_in_use:
            return False
        if failure is not None:
            self._fail(trial, failure)
        elif self._observe(one):
            pass
        elif work.is_finished:
            self._complete(trial)
        elif one.job is not None:
            self._fail(trial, "its job ended before its training did")
        else:
            (one.job,) = self._executor.start([work], self._log)
            return False
        return True

    def _observe(self, one: _Training) -> bool:
        """Report new evaluations of a trial; return whether it is pruned."""
        evaluations = one.trial.work.evaluations()
        scores = self._sweep.scores(evaluations)
        if one.trial.observe(scores, is_last=_are_at_end(evaluations, one.trial.work.case.config.timetable.end)):
            one.was_told = True
            self._progress.end(one.trial.work.name, f": pruned; {self._best()}")
        return one.was_told

    def _complete(self, trial: "Trial") -> None:
        score = self._sweep.scores(trial.work.evaluations())[-1]
        if score != score:
            self._fail(trial, f"{self._sweep.metric} is not a number")
            return
        trial.complete(score)
        self._progress.end(trial.work.name, f": {score:.4g}; {self._best()}")

    def _fail(self, trial: "Trial", reason: str) -> None:
        trial.fail(reason)
        self._progress.end(trial.work.name, f": failed, the sweep continues: {reason}")

    def _best(self) -> str:
        found = self._journal.best()
        return "none is complete" if found is None else f"best {found.value:.4g}, {trial_name(found.number)}"


def _are_at_end(evaluations: Sequence[Sequence[Any]], end: Clocks) -> bool:
    """Return whether the last evaluation of every seed is that of the end of its run."""
    return all(rows and Clocks.of_row(rows[-1]).step >= end.step for rows in evaluations)
