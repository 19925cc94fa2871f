"""Read the results of a study back from its files, to draw them again without its runs."""

import csv
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kilolayer.errors import ConfigurationError, RunError
from kilolayer.runs import RunDirectory, TrainConfig
from kilolayer.runs.old_format import upgrade_settings
from kilolayer.studies.core.registry import MADE, find_study
from kilolayer.studies.core.results import CURVES, DESCRIPTION, MEASURED, SCORES
from kilolayer.studies.core.study import Case, Label, Measured, Outcome, Row, Study

_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, csv.Error, RecursionError)
"""What damaged files raise."""


@dataclasses.dataclass(frozen=True)
class Recorded(Outcome):
    """An outcome whose rows and systems come from the files of its study. Its run directory may be gone."""

    recorded_rows: Sequence[Mapping[str, Any]] = ()
    recorded_systems: Sequence[Mapping[str, Any]] = ()
    together: int = 1
    """Seeds that were trained side by side."""

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The evaluations in curves.csv."""
        return self.recorded_rows

    @property
    def systems(self) -> Sequence[Mapping[str, Any]]:
        """The systems in study.json: those of all cases."""
        return self.recorded_systems

    @property
    def seeds_side_by_side(self) -> int:
        """As recorded in measured.csv, else all seeds of the case."""
        return self.together


def read_results(directory: str | os.PathLike) -> tuple[Study, list[Outcome], str]:
    """Read what `write_results` wrote.

    Args:
        directory: with the files.

    Returns:
        The study, its outcomes in their order, and the command line that made them; empty if it is not known.

    Raises:
        RunError: if a file is missing or damaged.
        ConfigurationError: for the results of an unknown study.
    """
    directory = Path(directory)
    try:
        description = json.loads((directory / DESCRIPTION).read_text())
        name = description["study"]
        study = MADE[name](description) if name in MADE else find_study(name)
        return study, list(_outcomes(directory, description, study)), str(description.get("command", ""))
    except ConfigurationError:
        raise
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(
            f"{directory} cannot be drawn again: it needs {DESCRIPTION}, {CURVES} and {SCORES} of a study ({reason})"
        ) from error


def _outcomes(directory: Path, description: Mapping[str, Any], study: Study) -> Iterator[Outcome]:
    curves, scores = (_read(directory / name) for name in (CURVES, SCORES))
    measured = _read(directory / MEASURED) if (directory / MEASURED).exists() else []
    columns = list(scores[0])
    labels = columns[: columns.index("seed")]
    in_curves = {metric for metric in study.metrics if metric in curves[0]}
    for score in scores:
        place: dict[str, Label] = {name: score[name] for name in labels if score[name] is not None}
        own = place | {"seed": score["seed"]}
        rows = _rows_of(measured, own)
        case = _case(description, labels, place)
        seed = int(score["seed"])
        yield Recorded(
            case,
            seed,
            RunDirectory(directory / case.name / f"seed-{seed}"),
            Measured(
                _only_row(rows) | _measured(score, study, in_curves),
                rows,
                _measured(score, study, in_curves, "_untrained"),
            ),
            last=study.last,
            recorded_rows=_rows_of(curves, own),
            recorded_systems=_systems(description),
            together=int(rows[0].get("seeds_side_by_side", 0)) if rows else 0,
        )


def _systems(description: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the systems as a run has them, with the dates, which are of all of them together."""
    dates = [{"started": date} for date in description.get("dates", ())] or [{}]
    return [system | date for system in description["systems"] for date in dates]


def _case(description: Mapping[str, Any], columns: Sequence[str], labels: Mapping[str, Label]) -> Case:
    """Return the case with some labels. An empty cell is a label that the case lacks, or an empty text."""
    names = ["-".join(map(str, values)) for values in (labels.values(), (labels.get(name, "") for name in columns))]
    name = names[0] if names[0] in description["cases"] else names[1]
    settings = description["settings"] | description["cases"][name]
    if "torso" not in settings:  # written by a version whose configurations had another format
        settings = upgrade_settings(settings)
    return Case(dict(labels), TrainConfig.from_dict(settings))


def _measured(score: Mapping[str, Any], study: Study, in_curves: set[str], suffix: str = "") -> dict[str, float]:
    """Return the scores that no curve gives."""
    found = {metric: score.get(f"{metric}{suffix}") for metric in study.metrics if metric not in in_curves}
    return {metric: float(np.nan if value is None else value) for metric, value in found.items()}


def _only_row(rows: Sequence[Row]) -> dict[str, float]:
    """Return the numbers of a row that an outcome has alone: its scores, of which figures may show more than tables."""
    return {name: float(value) for row in rows for name, value in row.items() if len(rows) == 1 and _is_number(value)}


def _is_number(value: Label) -> bool:
    return not isinstance(value, str)


def _rows_of(rows: Sequence[Mapping[str, Any]], own: Mapping[str, Label]) -> list[Row]:
    """Return the rows of one outcome, without its labels and the cells that are empty."""
    return [
        {name: value for name, value in row.items() if name not in own and value is not None}
        for row in rows
        if all(row.get(name) == value for name, value in own.items())
    ]


def _read(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return [{name: _value(text) for name, text in row.items()} for row in csv.DictReader(file)]


def _value(text: str) -> Label | None:
    """Return a cell as a number if it is one; None if it is empty."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None
