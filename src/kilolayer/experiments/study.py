"""What a study is: a grid of configurations, each trained with several seeds, a metric, and a figure."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from kilolayer.training import TrainConfig

Size = Literal["cpu", "gpu", "paper"]
"""What a study is sized for: 2 CPU cores, one GPU, or the published budget."""

LAST = 5
"""A score is the mean of so many last evaluations, as in the paper."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A cell of a study's grid."""

    labels: Mapping[str, str | int]
    """Where it lies in the grid, such as task, agent and depth."""
    config: TrainConfig
    """Its settings; the seed plays no part."""

    @property
    def name(self) -> str:
        """The labels in one word, for directories."""
        return "-".join(str(value) for value in self.labels.values())


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one seed of a case came to."""

    case: Case
    seed: int
    rows: Sequence[Mapping[str, Any]]
    """Of its metrics.jsonl."""
    system: Any
    """Of its system.json: hardware and versions."""

    def curve(self, metric: str) -> tuple[Float[np.ndarray, " evaluations"], Float[np.ndarray, " evaluations"]]:
        """Return env steps and values of a metric."""
        known = [row for row in self.rows if row.get(metric) is not None]
        return np.array([row["env_steps"] for row in known], float), np.array([row[metric] for row in known], float)

    def score(self, metric: str) -> float:
        """Return the mean of a metric over the last evaluations."""
        return float(self.curve(metric)[1][-LAST:].mean())

    @property
    def seconds(self) -> float:
        """What training took, side by side with the other seeds of its case."""
        return float(self.rows[-1]["perf/seconds"])


@dataclasses.dataclass(frozen=True)
class Study:
    """A question, and how it is answered."""

    name: str
    question: str
    """One line for lists and pages."""
    cases: Callable[[Size], Sequence[Case]]
    """Returns the grid at a size."""
    seeds: int
    """How many seeds each case is trained with, unless asked otherwise."""
    metrics: tuple[str, ...]
    """What its table shows, by the names in metrics.jsonl."""
    draw: Callable[[Sequence[Outcome]], Figure]
    """Draws its figure."""


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean over seeds and its standard error; the error of a single seed is not a number."""
    array = np.asarray(values, float)
    error = array.std(ddof=1) / array.size**0.5 if array.size > 1 else np.nan
    return float(array.mean()), float(error)
