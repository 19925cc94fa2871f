"""Train the cases of a study: finished runs are read, stopped runs resume from their checkpoints."""

import dataclasses
import itertools
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from signal import Signals
from typing import Any, Protocol

from kilolayer.data import ReplayBuffer
from kilolayer.errors import KilolayerError, RunError, TrainingError
from kilolayer.kernel_choices import own_kernel_choices
from kilolayer.process_setup import set_up_process
from kilolayer.runs import Clocks, RunDirectory, SeedGroup, TrainConfig
from kilolayer.runs.run_directory import write_errors
from kilolayer.studies.core.study import RECORDING, Case, Outcome, Study, decisive_settings
from kilolayer.training import RESUMABLE_SETTINGS, TrainResult, train_seeds


class StudyStoppedError(RunError):
    """A signal stopped a study. Its runs are saved, and resume when the study starts again."""

    def __init__(self, directory: Path, signal: Signals):
        """Take the directory of the runs, and the signal."""
        super().__init__(f"stopped and saved; start the same study again to resume in {directory}")
        self.signal = signal


@dataclasses.dataclass(frozen=True)
class Work:
    """A case to train with some seeds in a directory."""

    case: Case
    seeds: tuple[int, ...]
    directory: Path
    """Directory of the runs of a study, or of several studies that share runs."""
    data: Callable[[TrainConfig], ReplayBuffer] | None = None
    """Makes the data that the case learns from; its runs have a directory of their own."""
    folder: str = ""
    """Directory of the runs of the case in `directory`; empty: one that all cases with equal settings share."""

    @property
    def name(self) -> str:
        """What it is called in lines of progress."""
        return self.folder or self.case.name

    @property
    def path(self) -> Path:
        """Directory of the runs of the case. It holds a directory for each group of seeds trained side by side."""
        name = self.folder or self.case.directory
        if self.data is not None:
            name += f"-{getattr(self.data, '__name__', 'data')}"
        return self.directory / name

    def set_up_process(self) -> None:
        """Set up a process that trains this case alone, as the command line does; on a GPU, with its kernels."""
        set_up_process()
        begun = sorted(self.path.glob("seeds-*/seed-*"))
        own_kernel_choices(begun[0] if begun else None)

    def train(self, *, progress: bool = True) -> None:
        """Train the seeds of the case that are not finished; stopped runs resume.

        Args:
            progress: show progress on standard error.

        Raises:
            StudyStoppedError: if a signal stopped the training.
            TrainingError: if a seed could not be trained.
            RunError: if a directory cannot be read or written.
        """
        groups = self._groups()
        recording = {name: getattr(self.case.config, name) for name in RECORDING if name in RESUMABLE_SETTINGS}
        for group in groups:
            wanted = [run for seed, run in zip(group.seeds, group.runs, strict=True) if seed in self.seeds]
            if all(_is_finished(run, self.case.config) for run in wanted):
                continue
            self._check_signal(train_seeds(resume=group.path, progress=progress, **recording))
        missing = [seed for seed in self.seeds if not any(seed in group.seeds for group in groups)]
        if missing:
            path = self.path / f"seeds-{'-'.join(map(str, missing))}"
            if path.exists():  # incomplete: training stopped before its first files
                with write_errors(path):
                    shutil.rmtree(path)
            config = self.case.config
            data = None if self.data is None else self.data(config)
            self._check_signal(train_seeds(config=config, seeds=missing, run_dir=path, data=data, progress=progress))

    def outcomes(self) -> list[Outcome]:
        """Return the outcome of each seed of the trained case."""
        runs = self._runs()
        return [Outcome(self.case, seed, runs[seed]) for seed in self.seeds]

    @property
    def is_finished(self) -> bool:
        """Whether all seeds are trained."""
        runs = self._runs()
        return all(seed in runs and _is_finished(runs[seed], self.case.config) for seed in self.seeds)

    @property
    def share(self) -> float:
        """Share of the training that is done, from 0 to 1, by the evaluations so far."""
        end = self.case.config.timetable.end.step
        steps = [Clocks.of_row(rows[-1]).step for rows in self.evaluations() if rows]
        return min(sum(steps) / (len(self.seeds) * end), 1.0)

    def evaluations(self) -> list[Sequence[Mapping[str, Any]]]:
        """Return the rows of metrics.jsonl of each seed so far, also while another process begins the runs."""
        found: list[Sequence[Mapping[str, Any]]] = []
        for seed in self.seeds:
            paths = sorted(self.path.glob(f"seeds-*/seed-{seed}"))
            found.append(RunDirectory(paths[0]).metrics() if paths else [])
        return found

    @property
    def is_in_use(self) -> bool:
        """Whether a process trains one of the runs."""
        return any(RunDirectory(path).is_in_use for path in self.path.glob("seeds-*/seed-*"))

    def _runs(self) -> dict[int, RunDirectory]:
        """Return the runs that exist already, by seed."""
        return {seed: run for group in self._groups() for seed, run in zip(group.seeds, group.runs, strict=True)}

    def _groups(self) -> list[SeedGroup]:
        """Return the groups of seeds that exist already.

        Raises:
            RunError: if they were trained with other settings, by a version with other defaults.
        """
        groups = [SeedGroup.open(path) for path in sorted(self.path.glob("seeds-*")) if SeedGroup.is_at(path)]
        for run in (run for group in groups for run in group.runs):
            held = run.config().to_dict()
            for name, value in decisive_settings(self.case.config).items():
                if held[name] != value:
                    raise RunError(
                        f"{run.path} was trained with {name}={held[name]}, and the default is {value} now; move "
                        f"{self.path} away, or choose another directory for the study"
                    )
        return groups

    def _check_signal(self, results: Sequence[TrainResult]) -> None:
        if results[0].stopped_by is not None:
            raise StudyStoppedError(self.directory, results[0].stopped_by)


class Workers(Protocol):
    """A way to train cases: in this process, or in jobs of an `Executor`."""

    def __call__(self, works: Sequence[Work], log: Callable[[str], object]) -> Iterator[tuple[Work, str | None]]:
        """Train all cases.

        Args:
            works: the cases.
            log: called with lines about progress.

        Yields:
            Each case as it ends, with the reason if it failed.

        Raises:
            StudyStoppedError: if a signal stopped the training.
        """
        ...


def in_turn(
    works: Sequence[Work], log: Callable[[str], object], *, progress: bool = True
) -> Iterator[tuple[Work, str | None]]:
    """Train one case after another in this process; see `Workers`."""
    times: list[float] = []
    for number, work in enumerate(works):
        left = f"; {_duration(statistics.fmean(times) * (len(works) - number))} left" if times else ""
        log(f"case {number + 1} of {len(works)}, {work.case.name}, {len(work.seeds)} seeds{left}")
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
    log: Callable[[str], object] = id,
) -> Iterator[list[Outcome]]:
    """Train the cases of a study and measure their runs.

    Args:
        study: the study.
        cases: all or some cases of its grid; cases with equal settings are trained once.
        seeds: seeds of each case.
        directory: directory of the runs; studies with common cases can share it.
        workers: how to train: `in_turn`, or what `in_processes`, `by_submitit` or `by_ray` return.
        log: called with lines about progress.

    Yields:
        The outcomes of each case as it ends, one for each seed.

    Raises:
        StudyStoppedError: if a signal stopped the training.
        TrainingError: at the end, if some cases could not be trained. The other cases are trained.
    """
    alike: dict[str, list[Case]] = {}
    for case in cases:
        alike.setdefault(case.directory, []).append(case)
    works = [Work(own[0], tuple(seeds), Path(directory), study.data) for own in alike.values()]
    finished = [work for work in works if work.is_finished]
    to_train = [work for work in works if work not in finished]
    failed: list[str] = []
    trained = workers(to_train, lambda text: log(f"{study.name}: {text}")) if to_train else ()
    for work, failure in itertools.chain(((work, None) for work in finished), trained):
        own = alike[work.case.directory]
        if failure is not None:
            names = ", ".join(case.name for case in own)
            log(f"{study.name}: {names} failed, the study continues: {failure}")
            failed.append(names)
            continue
        for case in own:
            yield [_measured(study, dataclasses.replace(one, case=case)) for one in work.outcomes()]
    if failed:
        raise TrainingError(
            f"{study.name}: {', '.join(failed)} could not be trained; all other cases are in {directory}"
        )


def one_line(error: BaseException) -> str:
    """Return an error as one line; for errors that are not kilolayer's own, with the name of the class."""
    text = " ".join(str(error).split())
    return text if isinstance(error, KilolayerError) else f"{type(error).__name__}: {text}"


def _measured(study: Study, outcome: Outcome) -> Outcome:
    return outcome if study.measure is None else dataclasses.replace(outcome, measured=study.measure(outcome))


def _duration(seconds: float) -> str:
    """Return a duration in words."""
    minutes = round(seconds / 60.0)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(minutes, 1)} min"


def _is_finished(run: RunDirectory, config: TrainConfig) -> bool:
    """Return whether a run has its last evaluation and the checkpoint of that evaluation."""
    rows = run.metrics()
    if not rows:
        return False
    step = Clocks.of_row(rows[-1]).step
    return step >= config.timetable.end.step and (run.checkpoints / str(step)).is_dir()
