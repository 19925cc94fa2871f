"""Running a study: what is finished is not run again, and what was stopped goes on from its checkpoint."""

import csv
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kilolayer.errors import ConfigurationError, RunError, TrainingError
from kilolayer.experiments.study import Case, Outcome, Study, mean_and_error
from kilolayer.report.style import save
from kilolayer.training import RunDirectory, SeedGroup, TrainConfig, TrainResult, train_seeds
from kilolayer.training.loop import RESUMABLE_SETTINGS

READ_SECONDS = 2.0
"""What reading a finished case takes at most."""


class StudyStoppedError(RunError):
    """A signal ended a study early; what it did is kept, and it goes on when it is started again."""

    def __init__(self, directory: Path, signal: int):
        """Say where the study is."""
        super().__init__(f"stopped and saved; start the same study again to go on in {directory}")
        self.signal = signal


def run_case(case: Case, seeds: Sequence[int], directory: Path, *, progress: bool = True) -> list[Outcome]:
    """Train a case with all seeds side by side, or go on with it, or only read it if it is finished.

    Args:
        case: what to train.
        seeds: of its runs.
        directory: of the study; the case has a directory of its own in it.
        progress: show progress on standard error.

    Raises:
        ConfigurationError: if the directory holds this case with other settings or seeds.
        StudyStoppedError: if a signal stopped it.
    """
    path = directory / "runs" / case.name
    if SeedGroup.is_at(path):
        group = SeedGroup.open(path)
        _refuse_others(case, seeds, group)
        if not all(_is_finished(run, case.config) for run in group.runs):
            steps = case.config.total_env_steps  # it may have been begun with fewer
            _stop_if_asked(train_seeds(resume=path, total_env_steps=steps, progress=progress), directory)
    else:
        _stop_if_asked(train_seeds(config=case.config, seeds=seeds, run_dir=path, progress=progress), directory)
    runs = SeedGroup.open(path).runs
    return [
        Outcome(case, seed, run.metrics(), json.loads(run.system_file.read_text()))
        for seed, run in zip(seeds, runs, strict=True)
    ]


def run_study(
    study: Study,
    cases: Sequence[Case],
    seeds: Sequence[int],
    directory: str | os.PathLike,
    *,
    progress: bool = True,
    tell: Callable[[str], object] = id,
) -> Iterator[list[Outcome]]:
    """Run the cases one after the other; yields the outcomes of each, one for each seed.

    Args:
        study: whose grid it is.
        cases: of the grid, all or some.
        seeds: to train each case with.
        directory: where the study is kept.
        progress: show the progress of each case on standard error.
        tell: called with what is about to be done.

    Raises:
        ConfigurationError: if the directory holds a case with other settings or seeds.
        StudyStoppedError: if a signal stopped it.
        TrainingError: at the end, if a case could not be trained; the others are.
    """
    times: list[float] = []
    failed: list[str] = []
    for number, case in enumerate(cases):
        left = f"; {_duration(statistics.fmean(times) * (len(cases) - number))} left" if times else ""
        tell(f"{study.name}: case {number + 1} of {len(cases)}, {case.name}, {len(seeds)} seeds{left}")
        began = time.monotonic()
        try:
            outcomes = run_case(case, seeds, Path(directory), progress=progress)
        except TrainingError as error:
            tell(f"{study.name}: {case.name} failed, the study goes on: {error}")
            failed.append(case.name)
            continue
        seconds = time.monotonic() - began
        if seconds > READ_SECONDS:  # it was trained, not only read
            times.append(seconds)
        yield outcomes
    if failed:
        raise TrainingError(
            f"{study.name}: {', '.join(failed)} could not be trained; all other cases are in {directory}"
        )


def _duration(seconds: float) -> str:
    """Return a time to wait in words."""
    minutes = round(seconds / 60.0)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(minutes, 1)} min"


def write_results(study: Study, outcomes: Sequence[Outcome], directory: str | os.PathLike) -> Path:
    """Write `curves.csv`, `study.json` and the figure of a study; returns the figure's path.

    `study.json` holds the table, the settings that all cases share and those that set each apart, and the systems.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    columns = (*outcomes[0].case.labels, "seed", "env_steps", "gradient_steps", *study.metrics, "perf/seconds")
    with (directory / "curves.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for outcome in outcomes:
            labels = [*outcome.case.labels.values(), outcome.seed]
            for row in outcome.rows:
                writer.writerow([*labels, *(row.get(name) for name in columns[len(labels) :])])
    settings = {outcome.case.name: _settings(outcome.case) for outcome in outcomes}
    common = _common(list(settings.values()))
    described = {
        "study": study.name,
        "question": study.question,
        "seeds": sorted({outcome.seed for outcome in outcomes}),
        "table": table(study, outcomes),
        "settings": common,
        "cases": {
            case: {name: value for name, value in own.items() if name not in common} for case, own in settings.items()
        },
        "systems": _distinct(system for outcome in outcomes for system in outcome.system),
    }
    (directory / "study.json").write_text(json.dumps(described, indent=1) + "\n")
    return save(study.draw(outcomes), directory / f"{study.name}.png")


def table(study: Study, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return a row for each case: its labels, mean and standard error over seeds of each metric, seconds, seeds."""
    rows = []
    for name in dict.fromkeys(outcome.case.name for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.case.name == name]
        row: dict[str, Any] = dict(own[0].case.labels)
        for metric in study.metrics:
            row[metric], row[f"{metric}_stderr"] = mean_and_error([outcome.score(metric) for outcome in own])
        rows.append(row | {"seconds": round(max(outcome.seconds for outcome in own), 1), "seeds": len(own)})
    return rows


def _refuse_others(case: Case, seeds: Sequence[int], group: SeedGroup) -> None:
    if tuple(seeds) != group.seeds:
        raise ConfigurationError(
            f"{group.path} holds the seeds {', '.join(map(str, group.seeds))}, not {', '.join(map(str, seeds))}; ask "
            "for those, or give the study another directory"
        )
    held, asked = group.runs[0].config().to_dict(), case.config.to_dict()
    for name, value in asked.items():
        if name not in ("seed", *RESUMABLE_SETTINGS) and value != held[name]:
            raise ConfigurationError(
                f"{group.path} holds this case with {name}={held[name]}, not {value}; give the study another directory"
            )


def _is_finished(run: RunDirectory, config: TrainConfig) -> bool:
    rows = run.metrics()
    return bool(rows) and rows[-1]["env_steps"] >= config.num_unrolls * config.env_steps_per_unroll


def _stop_if_asked(results: Sequence[TrainResult], directory: Path) -> None:
    if results[0].stopped_by is not None:
        raise StudyStoppedError(directory, results[0].stopped_by)


def _settings(case: Case) -> dict[str, Any]:
    return {name: value for name, value in case.config.to_dict().items() if name != "seed"}


def _common(settings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what all have, with the same value."""
    first, *others = settings
    return {name: value for name, value in first.items() if all(other[name] == value for other in others)}


def _distinct(items: Iterator[Any]) -> list[Any]:
    """Return systems without their starting times, each once."""
    found: list[Any] = []
    for item in items:
        item = {name: value for name, value in item.items() if name != "started"}
        if item not in found:
            found.append(item)
    return found
