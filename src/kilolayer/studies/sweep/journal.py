"""The trials of a sweep in Optuna's journal, which several processes and machines share.

The journal is a file to which every process appends, under a lock that works on network file systems as well; SQLite's
does not on many of them. A process that was killed leaves its trials as running. The kernel has let go of the locks it
held on them, so the next process sees that nobody trains them, and goes on with them.
"""

import contextlib
import dataclasses
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from kilolayer.errors import ConfigurationError, KilolayerError, RunError
from kilolayer.files import locked
from kilolayer.runs.run_directory import write_errors
from kilolayer.studies.core.run import Work
from kilolayer.studies.sweep.plan import Sweep, trial_name
from kilolayer.studies.sweep.sampling import RepeatableSampler, distributions

JOURNAL = "journal.log"
"""Optuna's journal, in the directory of a sweep; optuna-dashboard opens it, too."""

NAME = "sweep"
"""Name of the only study in the journal."""

PRUNED_FROM = 5
"""Trials that end before any is pruned."""

FAILURE, REPEATS = "failure", "repeats"
"""Attributes of a trial: why it failed, and the number of the trial with the same settings that it repeats."""

LOCK, OWN_LOCK = ".lock", ".owner"
"""Locks: of a sweep, while a trial is chosen; of a trial, as long as a process answers for it."""

LOCK_SECONDS = 0.05
"""Time between two attempts to lock a sweep."""


class Journal:
    """The trials of a sweep, for one of the processes that share it."""

    def __init__(self, sweep: Sweep, directory: Path):
        """Open the journal, or begin one.

        Raises:
            RunError: if it cannot be read or written.
        """
        self.sweep, self.directory = sweep, directory
        self._given_up: set[int] = set()
        self._before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            with _one_line_errors(directory), _only(directory / LOCK):
                self.study = _open(sweep, directory / JOURNAL)
        except BaseException:
            self._restore()
            raise

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave Optuna's logging as it was."""
        self._restore()

    def _restore(self) -> None:
        optuna.logging.set_verbosity(self._before)

    def trials(self) -> list[FrozenTrial]:
        """Return all trials of all processes."""
        return self.study.get_trials(deepcopy=False)

    def next(self, trials: int) -> "Trial | None":
        """Return a trial to train: one that nobody trains any more, else a new one.

        It belongs to this process until it is closed. No other process gets it.

        Args:
            trials: of all processes together.

        Returns:
            None if there are as many already, or every combination of a space was tried.
        """
        with _one_line_errors(self.directory), _only(self.directory / LOCK):
            for one in self.trials():
                if one.state == TrialState.RUNNING and one.number not in self._given_up:
                    taken = self._taken(optuna.Trial(self.study, one._trial_id))
                    if taken is not None:
                        return taken
            while len(self.trials()) < trials and not self.is_exhausted:
                taken = self._taken(self.study.ask())
                if taken is not None:
                    return taken
            return None

    def give_up(self, trial: "Trial") -> None:
        """Leave a trial that was interrupted to the next process, and to a later start."""
        self._given_up.add(trial.number)
        trial.close()

    @property
    def is_exhausted(self) -> bool:
        """Whether every combination of the space was tried."""
        size = self.sweep.space.size
        return size is not None and len({_key(one) for one in self.trials() if one.state.is_finished()}) >= size

    def best(self) -> FrozenTrial | None:
        """Return the best trial that trained to the end; of equal ones the first."""
        complete = [one for one in self.trials() if one.state == TrialState.COMPLETE]
        sign = -1.0 if self.sweep.direction == "maximize" else 1.0
        return min(complete, key=lambda one: (sign * one.values[0], one.number), default=None)

    def endings(self) -> list["Ending"]:
        """Return how each trial stands."""
        return [_ending(one) for one in self.trials()]

    def _taken(self, trial: optuna.Trial) -> "Trial | None":
        """Lock a trial and choose its settings; None if another process has it, or the settings are not valid."""
        place = self.directory / trial_name(trial.number)
        with ExitStack() as stack:
            place.mkdir(parents=True, exist_ok=True)
            if not stack.enter_context(locked(place / OWN_LOCK)):
                return None
            parameters = {name: trial._suggest(name, one) for name, one in distributions(self.sweep).items()}
            try:
                work = self.sweep.work(trial.number, parameters, self.directory)
            except ConfigurationError as error:  # the check of a large space leaves combinations out
                trial.set_user_attr(FAILURE, str(error))
                self.study.tell(trial, state=TrialState.FAIL)
                return None
            return Trial(self, trial, parameters, work, stack.pop_all())

    def twin(self, trial: "Trial") -> FrozenTrial | None:
        """Return the first trial that has ended with the settings of another one."""
        own = self.trials()[trial.number]
        return next((one for one in self.trials() if one.state.is_finished() and one.params == own.params), None)


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a trial stands."""

    number: int
    parameters: Mapping[str, Any]
    score: float | None
    """None if it has none, or not yet."""
    evaluations: int | None
    """Of a pruned trial: evaluations until it was pruned, that of the untrained networks included."""
    failure: str | None
    repeats: int | None
    """The trial that it repeats."""


def _ending(trial: FrozenTrial) -> Ending:
    pruned = trial.state == TrialState.PRUNED
    return Ending(
        trial.number,
        trial.params,
        trial.value if trial.state.is_finished() else None,
        1 + (trial.last_step or 0) if pruned else None,
        trial.user_attrs.get(FAILURE),
        trial.user_attrs.get(REPEATS),
    )


@dataclasses.dataclass(eq=False)
class Trial:
    """A trial that belongs to this process."""

    journal: Journal
    trial: optuna.Trial
    parameters: Mapping[str, Any]
    work: Work
    _locks: ExitStack

    @property
    def number(self) -> int:
        """Its number, from 0."""
        return self.trial.number

    def observe(self, scores: Sequence[float], *, is_last: bool) -> bool:
        """Take the scores after each evaluation so far.

        Args:
            scores: the first is that of the untrained networks.
            is_last: the last score is that of the end of training.

        Returns:
            Whether the trial is pruned. It depends on the scores alone, not on when they are seen.
        """
        known = self.journal.trials()[self.number].intermediate_values
        for step, score in enumerate(scores[1:], 1):
            if step not in known and score == score:  # not NaN
                self.trial.report(score, step)
            is_end = is_last and step == len(scores) - 1
            if step >= max(known, default=0) and not is_end and self.trial.should_prune():
                self._tell(TrialState.PRUNED)
                return True
        return False

    def complete(self, score: float) -> None:
        """End the trial, which trained to the end."""
        self._tell(TrialState.COMPLETE, score)

    def fail(self, reason: str) -> None:
        """End the trial, which could not be trained."""
        self._tell(TrialState.FAIL, attributes={FAILURE: reason})

    def repeat(self, twin: FrozenTrial) -> None:
        """End the trial as one with the same settings ended."""
        for step, value in twin.intermediate_values.items():
            self.trial.report(value, step)
        attributes = {REPEATS: twin.number} | {name: one for name, one in twin.user_attrs.items() if name == FAILURE}
        self._tell(twin.state, twin.value if twin.state == TrialState.COMPLETE else None, attributes=attributes)

    def close(self) -> None:
        """Let go of it."""
        self._locks.close()

    def _tell(
        self, state: TrialState, score: float | None = None, *, attributes: Mapping[str, Any] | None = None
    ) -> None:
        for name, value in (attributes or {}).items():
            self.trial.set_user_attr(name, value)
        self.journal.study.tell(self.trial, score, state=state)


def _open(sweep: Sweep, path: Path) -> Study:
    lock = JournalFileSymlinkLock(str(path))
    _mend(path, lock)
    pruner = (
        optuna.pruners.MedianPruner(n_startup_trials=PRUNED_FROM, n_warmup_steps=sweep.last)
        if sweep.pruner == "median"
        else optuna.pruners.NopPruner()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path), lock_obj=lock)),
            study_name=NAME,
            direction=sweep.direction,
            sampler=RepeatableSampler(sweep),
            pruner=pruner,
            load_if_exists=True,
        )


def _mend(path: Path, lock: JournalFileSymlinkLock) -> None:
    """Cut off a last line that a crash cut short: nothing could be appended behind it."""
    if not path.exists():
        return
    lock.acquire()
    try:
        with path.open("r+b") as file:
            text = file.read()
            if text and not text.endswith(b"\n"):
                file.truncate(text.rfind(b"\n") + 1)
                os.fsync(file.fileno())
    finally:
        lock.release()


@contextlib.contextmanager
def _only(path: Path) -> Iterator[None]:
    """Wait until no other process holds the lock of a file, and hold it."""
    while True:
        with locked(path) as is_free:
            if is_free:
                yield
                return
        time.sleep(LOCK_SECONDS)


@contextlib.contextmanager
def _one_line_errors(directory: Path) -> Iterator[None]:
    """Raise what a file that cannot be read or written raises as one line."""
    with write_errors(directory):
        try:
            yield
        except (ValueError, KeyError, AssertionError) as error:
            if isinstance(error, KilolayerError):
                raise
            reason = " ".join(str(error).split())
            raise RunError(f"{directory / JOURNAL} cannot be read: {type(error).__name__}: {reason}") from error


def _key(trial: FrozenTrial) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(trial.params.items()))
