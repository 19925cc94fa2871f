"""Statistics over seeds: mean and standard error as in the paper, interquartile mean and its bootstrap interval.

Definitions: Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021, and
its library rliable, which the tests compare with.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float
from numpy.typing import ArrayLike

from kilolayer.errors import ConfigurationError

Scores = Float[np.ndarray, "*batch seeds tasks"]
Aggregate = Callable[[Scores], Float[np.ndarray, "*batch"]]

RESAMPLES = 10_000
"""Resamples of an interval. With another seed its ends move by about a hundredth of its width."""

LEAST_SEEDS = 6
"""Fewer seeds have no 95 % interval: that of two or three seeds would be their range, and that of four or five hardly
less."""


class Interval(NamedTuple):
    """A confidence interval, or a range."""

    low: float
    high: float


def mean_and_error(values: ArrayLike) -> tuple[float, float]:
    """Return the mean over seeds and its standard error, which is NaN for a single seed."""
    array = np.asarray(values, float)
    error = array.std(ddof=1) / array.size**0.5 if array.size > 1 else np.nan
    return float(array.mean()), float(error)


def interquartile_mean(scores: Scores) -> Float[np.ndarray, "*batch"]:
    """Return the mean of the middle half of the scores of all seeds and tasks together.

    A quarter of the scores is left out at each end, rounded down: none of three scores, one of four.
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
    """Return the percentile interval of an aggregate by the stratified bootstrap: each task draws its own seeds.

    Args:
        scores: (seeds, tasks), or (seeds,) for a single task.
        aggregate: maps (resamples, seeds, tasks) to (resamples,).
        confidence: share of resamples inside the interval.
        resamples: number of draws.
        seed: of the draws.

    Raises:
        ConfigurationError: if there is no score, or one is NaN.
    """
    array = np.asarray(scores, float)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or not array.size or np.isnan(array).any():
        raise ConfigurationError(f"scores of shape {array.shape} must be seeds x tasks without NaN")
    seeds, tasks = array.shape
    drawn = np.random.default_rng(seed).integers(seeds, size=(resamples, seeds, tasks))
    figures = aggregate(array[drawn, np.arange(tasks)])
    low, high = np.quantile(figures, [0.5 - confidence / 2.0, 0.5 + confidence / 2.0])
    return Interval(float(low), float(high))


def interval_or_range(scores: ArrayLike) -> Interval:
    """Return the 95 % interval of the interquartile mean of one task's seeds; of few seeds their range.

    Args:
        scores: (seeds,); fewer than `LEAST_SEEDS` are few.

    Raises:
        ConfigurationError: if there is no score, or one is NaN.
    """
    array = np.asarray(scores, float)
    interval = bootstrap_interval(array)
    return interval if array.size >= LEAST_SEEDS else Interval(float(array.min()), float(array.max()))


def interval_name(counts: Iterable[int]) -> str:
    """Return what `interval_or_range` gives for cases with so many seeds, in words."""
    few = {count < LEAST_SEEDS for count in counts}
    if len(few) > 1:
        return f"95 % interval (range below {LEAST_SEEDS} seeds)"
    return "range" if True in few else "95 % interval"
