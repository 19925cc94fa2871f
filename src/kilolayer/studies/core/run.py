"""Training the cases of a study: what is finished is not run again, what was stopped goes on from its checkpoint."""

import dataclasses
import itertools
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from signal import Signals
from typing import Protocol

from kilolayer.errors import KilolayerError, RunError, TrainingError
from kilolayer.runs import RunDirectory, SeedGroup, TrainConfig
from kilolayer.runs.run_directory import write_errors
from kilolayer.studies.core.study import RECORDING, Case, Outcome, Study, decisive_settings
from kilolayer.training import RESUMABLE_SETTINGS, TrainResult, train_seeds


class StudyStoppedError(RunError):
    """A signal ended a study early; what it did is kept, and it goes on when it is started again."""

    def __init__(self, directory: Path, signal: Signals):
        """Say where the study is."""
        super().__init__(f"stopped and saved; start the same study again to go on in {directory}")
        self.signal = signal


@dataclasses.dataclass(frozen=True)
class Work:
    """A case to train with some seeds, and where."""

    case: Case
    seeds: tuple[int, ...]
    directory: Path
    """Of the study, or of several that share what they train."""

    @property
    def path(self) -> Path:
        """Where the runs of the case are, in a directory for each lot of seeds that is trained side by side."""
        return self.directory / self.case.directory

    def train(self, *, progress: bool = True) -> None:
        """Train the case with all seeds, or go on with it; nothing is done if it is finished.

        Args:
            progress: show progress on standard error.

        Raises:
            StudyStoppedError: if a signal stopped it.
            TrainingError: if a seed could not be trained.
            RunError: if a directory cannot be read or written.
        """
        lots = self._lots()
        recording = {name: getattr(self.case.config, name) for name in RECORDING if name in RESUMABLE_SETTINGS}
        for lot in lots:
            asked_for = [run for seed, run in zip(lot.seeds, lot.runs, strict=True) if seed in self.seeds]
            if not all(_is_finished(run, self.case.config) for run in asked_for):
                self._stop_if_asked(train_seeds(resume=lot.path, progress=progress, **recording))
        missing = [seed for seed in self.seeds if not any(seed in lot.seeds for lot in lots)]
        if missing:
            path = self.path / f"seeds-{'-'.join(map(str, missing))}"
            if path.exists():  # it was stopped before its first file was whole
                with write_errors(path):
                    shutil.rmtree(path)
            self._stop_if_asked(train_seeds(config=self.case.config, seeds=missing, run_dir=path, progress=progress))

    def outcomes(self) -> list[Outcome]:
        """Return what each seed of the trained case came to."""
        runs = {seed: run for lot in self._lots() for seed, run in zip(lot.seeds, lot.runs, strict=True)}
        return [Outcome(self.case, seed, runs[seed]) for seed in self.seeds]

    @property
    def is_finished(self) -> bool:
        """Whether every seed is trained."""
        runs = {seed: run for lot in self._lots() for seed, run in zip(lot.seeds, lot.runs, strict=True)}
        return all(seed in runs and _is_finished(runs[seed], self.case.config) for seed in self.seeds)

    @property
    def share(self) -> float:
        """How much of the training is done, from 0 to 1, by the evaluations so far."""
        runs = [
            run for lot in self._lots() for seed, run in zip(lot.seeds, lot.runs, strict=True) if seed in self.seeds
        ]
        steps = [rows[-1]["env_steps"] for run in runs if (rows := run.metrics())]
        return min(sum(steps) / (len(self.seeds) * self.case.config.total_env_steps), 1.0)

    def _lots(self) -> list[SeedGroup]:
        """Return what there is of the case.

        Raises:
            RunError: if it was trained with other settings, by a library that had other defaults.
        """
        lots = [SeedGroup.open(path) for path in sorted(self.path.glob("seeds-*")) if SeedGroup.is_at(path)]
        for run in (run for lot in lots for run in lot.runs):
            held = run.config().to_dict()
            for name, value in decisive_settings(self.case.config).items():
                if held[name] != value:
                    raise RunError(
                        f"{run.path} was trained with {name}={held[name]}, not {value}, which is the default now; move "
                        f"{self.path} away, or give the study another directory"
                    )
        return lots

    def _stop_if_asked(self, results: Sequence[TrainResult]) -> None:
        if results[0].stopped_by is not None:
            raise StudyStoppedError(self.directory, results[0].stopped_by)


class Workers(Protocol):
    """Who trains the cases."""

    def __call__(self, works: Sequence[Work], tell: Callable[[str], object]) -> Iterator[tuple[Work, str | None]]:
        """Train all; yields each as it ends, and why it failed if it did.

        Raises:
            StudyStoppedError: if a signal stopped it.
        """
        ...


def in_turn(
    works: Sequence[Work], tell: Callable[[str], object], *, progress: bool = True
) -> Iterator[tuple[Work, str | None]]:
    """Train one case after the other in this process; see `Workers`."""
    times: list[float] = []
    for number, work in enumerate(works):
        left = f"; {_duration(statistics.fmean(times) * (len(works) - number))} left" if times else ""
        tell(f"case {number + 1} of {len(works)}, {work.case.name}, {len(work.seeds)} seeds{left}")
        began = time.monotonic()
        try:
            work.train(progress=progress)
        except StudyStoppedError:
            raise
        except KilolayerError as error:
            yield work, one_line(error)
            continue
        times.append(time.monotonic() - began)
        yield work, None


def run_study(
    study: Study,
    cases: Sequence[Case],
    seeds: Sequence[int],
    directory: str | os.PathLike,
    *,
    workers: Workers = in_turn,
    tell: Callable[[str], object] = id,
) -> Iterator[list[Outcome]]:
    """Train the cases and look into them; yields the outcomes of each as it ends, one for each seed.

    Args:
        study: whose grid it is.
        cases: of the grid, all or some; those with equal settings are trained once.
        seeds: to train each case with.
        directory: where the runs are kept; studies that have cases in common can share one.
        workers: who trains them: `in_turn`, or those that `in_processes` or `by_submitit` return.
        tell: called with what is about to be done.

    Raises:
        StudyStoppedError: if a signal stopped it.
        TrainingError: at the end, if a case could not be trained; the others are.
    """
    alike: dict[str, list[Case]] = {}
    for case in cases:
        alike.setdefault(case.directory, []).append(case)
    works = [Work(own[0], tuple(seeds), Path(directory)) for own in alike.values()]
    finished = [work for work in works if work.is_finished]
    to_train = [work for work in works if work not in finished]
    failed: list[str] = []
    trained = workers(to_train, lambda text: tell(f"{study.name}: {text}")) if to_train else ()
    for work, failure in itertools.chain(((work, None) for work in finished), trained):
        own = alike[work.case.directory]
        if failure is not None:
            names = ", ".join(case.name for case in own)
            tell(f"{study.name}: {names} failed, the study goes on: {failure}")
            failed.append(names)
            continue
        for case in own:
            yield [_measured(study, dataclasses.replace(one, case=case)) for one in work.outcomes()]
    if failed:
        raise TrainingError(
            f"{study.name}: {', '.join(failed)} could not be trained; all other cases are in {directory}"
        )


def one_line(error: BaseException) -> str:
    """Return why something failed: the message of an error that is the user's to mend, the kind of any other too."""
    text = " ".join(str(error).split())
    return text if isinstance(error, KilolayerError) else f"{type(error).__name__}: {text}"


def _measured(study: Study, outcome: Outcome) -> Outcome:
    return outcome if study.measure is None else dataclasses.replace(outcome, measured=study.measure(outcome))


def _duration(seconds: float) -> str:
    """Return a time to wait in words."""
    minutes = round(seconds / 60.0)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(minutes, 1)} min"


def _is_finished(run: RunDirectory, config: TrainConfig) -> bool:
    """Say whether a run has its last evaluation, and the checkpoint that belongs to it."""
    total = config.num_unrolls * config.env_steps_per_unroll
    rows = run.metrics()
    return bool(rows) and rows[-1]["env_steps"] >= total and (run.checkpoints / str(rows[-1]["env_steps"])).is_dir()
