"""Statistics over seeds: mean and standard error as in the paper; interquartile mean and its bootstrap interval.

The definitions are those of "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (Agarwal et al.,
NeurIPS 2021) and of its library rliable, which the tests compare with.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float
from numpy.typing import ArrayLike

from kilolayer.errors import ConfigurationError

Scores = Float[np.ndarray, "*batch seeds tasks"]
Aggregate = Callable[[Scores], Float[np.ndarray, "*batch"]]

RESAMPLES = 10_000
"""How often an interval resamples: its ends then move by about a hundredth of its width with another seed."""


class Interval(NamedTuple):
    """Where a figure lies."""

    low: float
    high: float


def mean_and_error(values: ArrayLike) -> tuple[float, float]:
    """Return the mean over seeds and its standard error; the error of a single seed is not a number."""
    array = np.asarray(values, float)
    error = array.std(ddof=1) / array.size**0.5 if array.size > 1 else np.nan
    return float(array.mean()), float(error)


def interquartile_mean(scores: Scores) -> Float[np.ndarray, "*batch"]:
    """Return the mean of the middle half of all scores, those of every seed and task together.

    Of each end, a quarter is left out, rounded down: of three seeds none, of four one.
    """
    together = np.asarray(scores, float)
    together = together.reshape(*together.shape[:-2], -1)
    return np.asarray(scipy.stats.trim_mean(together, 0.25, axis=-1))


def bootstrap_interval(
    scores: ArrayLike,
    aggregate: Aggregate = interquartile_mean,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the percentile interval of a figure by the stratified bootstrap: seeds are drawn anew for each task.

    Args:
        scores: (seeds, tasks), or (seeds,) for a single task.
        aggregate: what to find the interval of; takes (resamples, seeds, tasks), returns (resamples,).
        confidence: share of resamples inside.
        resamples: how often to draw.
        seed: of the draws.

    Raises:
        ConfigurationError: if there is no score, or one is not a number.
    """
    array = np.asarray(scores, float)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or not array.size or np.isnan(array).any():
        raise ConfigurationError(f"scores of shape {array.shape} must be seeds x tasks, without missing ones")
    seeds, tasks = array.shape
    drawn = np.random.default_rng(seed).integers(seeds, size=(resamples, seeds, tasks))
    figures = aggregate(array[drawn, np.arange(tasks)])
    low, high = np.quantile(figures, [0.5 - confidence / 2.0, 0.5 + confidence / 2.0])
    return Interval(float(low), float(high))
