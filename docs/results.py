"""Look up numbers under `results/`: the words that comments in the docs are written in. See `docs/figures.py`.

Metrics go by their short names: `time_at_goal` for `eval/time_at_goal`. Labels select rows: `depth=16`.
"""

import csv
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"

LAST = 5
"""Evaluations in the score of a run."""


class Estimate(NamedTuple):
    """A mean over seeds and its standard error, which is NaN for one seed."""

    mean: float
    error: float


def estimate(values: np.ndarray) -> Estimate:
    """Return mean and standard error of the values that are not NaN."""
    values = values[~np.isnan(values)]
    if not values.size:
        return Estimate(np.nan, np.nan)
    error = values.std(ddof=1) / values.size**0.5 if values.size > 1 else np.nan
    return Estimate(float(values.mean()), float(error))


# Files ---------------------------------------------------------------------------------------------------------------


@functools.cache
def rows(name: str) -> Sequence[dict[str, Any]]:
    """Return the rows of a CSV file, such as `depth/scores.csv`, with numbers as numbers."""
    with (RESULTS / name).open(newline="") as file:
        return [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]


@functools.cache
def paper_rows() -> Sequence[dict[str, Any]]:
    """Return the points of the paper's Figure 1: task, depth, env_steps_M and time_at_goal."""
    return rows("../src/kilolayer/studies/paper/figure_1.csv")


@functools.cache
def data(name: str) -> Any:
    """Return the contents of a JSON file, such as `bench/step-2cores.json`."""
    return json.loads((RESULTS / name).read_text())


def benchmark(name: str) -> Sequence[dict[str, Any]]:
    """Return the rows of `bench/NAME-2cores.json`; older files are lists of rows alone."""
    found = data(f"bench/{name}-2cores.json")
    return found["rows"] if isinstance(found, dict) else found


def bench(name: str, value: str, **labels: Any) -> float:
    """Return a value of the one row of a benchmark with these labels."""
    chosen = [row for row in benchmark(name) if has(row, labels)]
    if len(chosen) != 1:
        raise LookupError(f"{len(chosen)} rows of bench {name} have {labels}")
    return chosen[0][value]


# Studies -------------------------------------------------------------------------------------------------------------


def cases(study: str, *labels: str) -> list[tuple[Any, ...]]:
    """Return the values of labels of each case of a study, in its order."""
    return list(dict.fromkeys(tuple(row[label] for label in labels) for row in rows(f"{study}/scores.csv")))


def seeds(study: str, metric: str, **labels: Any) -> np.ndarray:
    """Return the score of each seed of a case."""
    return np.array(_column(f"{study}/scores.csv", metric, labels), float)


def score(study: str, metric: str, **labels: Any) -> Estimate:
    """Return the score of a case; of the seeds that have one."""
    return estimate(seeds(study, metric, **labels))


def untrained(study: str, metric: str, **labels: Any) -> Estimate:
    """Return the score of the networks of a case before training."""
    return score(study, f"{metric}_untrained", **labels)


def gain(study: str, metric: str, **labels: Any) -> Estimate:
    """Return the score of a case minus that of its untrained networks, seed by seed."""
    return estimate(seeds(study, metric, **labels) - seeds(study, f"{metric}_untrained", **labels))


def difference(study: str, metric: str, first: dict[str, Any], second: dict[str, Any], **labels: Any) -> np.ndarray:
    """Return the score of one case minus that of another, seed by seed."""
    return seeds(study, metric, **labels, **first) - seeds(study, metric, **labels, **second)


def at(study: str, metric: str, env_steps: int, **labels: Any) -> Estimate:
    """Return a metric of a case in the evaluation at these env steps."""
    return estimate(np.array(_column(f"{study}/curves.csv", metric, labels | {"env_steps": env_steps}), float))


def last(study: str, metric: str, **labels: Any) -> np.ndarray:
    """Return a metric of each seed of a case in the last evaluation."""
    name = f"{study}/curves.csv"
    clocks = [clock for clock in ("env_steps", "gradient_steps") if clock in rows(name)[0]]
    end = max(tuple(row[clock] for clock in clocks) for row in rows(name) if has(row, labels))
    return np.array(_column(name, metric, labels | dict(zip(clocks, end, strict=True))), float)


def measured(study: str, metric: str, **labels: Any) -> Estimate:
    """Return the mean over seeds of a column of measured.csv, in the rows with these labels."""
    return estimate(np.array(_column(f"{study}/measured.csv", metric, labels), float))


# Text ----------------------------------------------------------------------------------------------------------------


def pm(estimate: tuple[float, float], digits: int = 2, error_digits: int | None = None) -> str:
    """Return mean and standard error as text; the mean alone where there is no error, a dash where there is neither."""
    mean, error = estimate
    if np.isnan(mean):
        return "-"
    after = digits if error_digits is None else error_digits
    return f"{mean:,.{digits}f}" + ("" if np.isnan(error) else f" ± {error:,.{after}f}")


def goals(study: str, **labels: Any) -> list[str]:
    """Return the cells of a case: steps at the goal before and after training, then success_any likewise."""
    return [
        pm(find(study, metric, **labels), digits)
        for metric, digits in (("time_at_goal", 0), ("success_any", 2))
        for find in (untrained, score)
    ]


def rounded(value: float, significant: int) -> str:
    """Return a number with so many significant digits, and commas between thousands."""
    digits = max(significant - 1 - int(np.floor(np.log10(abs(value)))), 0) if value else 0
    return f"{float(f'{value:.{significant}g}'):,.{digits}f}"


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def has(row: dict[str, Any], labels: dict[str, Any]) -> bool:
    """Return whether a row has these labels."""
    return all(row[name] == value for name, value in labels.items())


def _column(file: str, metric: str, labels: dict[str, Any]) -> list[Any]:
    """Return a column of the rows with these labels, in the order of seeds.

    Raises:
        LookupError: if there is no such row or column.
    """
    table = rows(file)
    names = [name for name in (metric, f"eval/{metric}", f"train/{metric}", f"perf/{metric}") if name in table[0]]
    chosen = sorted((row for row in table if has(row, labels)), key=lambda row: row["seed"])
    if not names or not chosen:
        raise LookupError(f"{file} has no {metric} with {labels}")
    return [np.nan if row[names[0]] == "" else row[names[0]] for row in chosen]
