"""Time to a goal as survival: hazards of a first arrival, over bins of time.

T is the first step, counted from now, at which the goal is reached: 0 if it is reached already. P(T = 0) is
sigmoid(l_0). Bin b holds the steps from e_(b-1) + 1 to e_b; its hazard h_b = sigmoid(l_b) is the probability that T
lies in it, given that it lies in no bin before. Inside of a bin every step has the same hazard. So

    S(k) = P(T > k) = (1 - sigmoid(l_0)) prod_(bins up to k) (1 - h_b)    at the end k of a bin,

and geometric between two ends. With bins of one step these are the equations of Survival RL (2026) and of ChronoSRL
(2026); with fewer bins that grow with time, an update costs less.
"""

import dataclasses
from functools import cached_property
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from kilolayer.errors import ConfigurationError
from kilolayer.objectives.sparse_reward import mean_where

Scalar = Float[Array, ""]

Spacing = Literal["geometric", "linear"]


@dataclasses.dataclass(frozen=True)
class TimeBins:
    """Bins of the steps 1 ... horizon."""

    horizon: int
    """Steps that are looked ahead."""
    count: int
    """Bins asked for. There are fewer where geometric ends would fall on the same step."""
    spacing: Spacing = "geometric"
    """Of the ends of bins: equal ratios, or equal differences."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        if self.horizon < 1:
            raise ConfigurationError(f"horizon={self.horizon} must be at least 1")
        if not 1 <= self.count <= self.horizon:
            raise ConfigurationError(f"bins={self.count} must be from 1 to the horizon, {self.horizon}")
        if self.spacing not in get_args(Spacing):
            raise ConfigurationError(
                f"spacing={self.spacing!r} is unknown; choose one of {', '.join(get_args(Spacing))}"
            )

    @cached_property
    def ends(self) -> np.ndarray:
        """The last step of each bin; that of the last bin is the horizon."""
        if self.spacing == "linear":
            ends = np.linspace(0, self.horizon, self.count + 1)[1:]
        else:
            ends = self.horizon ** (np.arange(1, self.count + 1) / self.count)
        return np.unique(np.concatenate([np.round(ends), [self.horizon]]).astype(np.int32))

    @cached_property
    def starts(self) -> np.ndarray:
        """The step before the first of each bin."""
        return np.concatenate([[0], self.ends[:-1]]).astype(np.int32)

    @property
    def sizes(self) -> np.ndarray:
        """Steps in each bin."""
        return self.ends - self.starts

    def __len__(self) -> int:
        """Return the number of bins."""
        return len(self.ends)

    def discounted(self, discount: float) -> np.ndarray:
        """Return for each bin the sum of discount^(k - 1) over its steps k."""
        weights = discount ** np.arange(self.horizon, dtype=np.float64)
        return np.add.reduceat(weights, self.starts).astype(np.float32)


def log_survival(logits: Float[Array, "*batch bins_and_now"]) -> Float[Array, "*batch bins_and_now"]:
    """Return log S at step 0 and at the end of each bin.

    Args:
        logits: l_0, then l_b of each bin.
    """
    return jnp.cumsum(jax.nn.log_sigmoid(-logits), axis=-1)


def arrival_probabilities(logits: Float[Array, "*batch bins_and_now"]) -> Float[Array, "*batch bins_and_two"]:
    """Return P(T = 0), P(T in b) for each bin, and P(T > horizon). They sum to one."""
    survival = jnp.exp(log_survival(logits))
    before = jnp.concatenate([jnp.ones_like(survival[..., :1]), survival[..., :-1]], axis=-1)
    return jnp.concatenate([before * jax.nn.sigmoid(logits), survival[..., -1:]], axis=-1)


def hazard_loss(
    logits: Float[Array, "batch bins_and_now"],
    arrived: Bool[Array, " batch"],
    time: Int[Array, " batch"],
    bins: TimeBins,
) -> Float[Array, " batch"]:
    """Return the negative log-likelihood of what was seen (ChronoSRL, 2026; Survival RL, 2026).

        T = time in bin b:    -[log(1 - h_0) + sum_(j < b) log(1 - h_j) + log h_b]
        T > time:             -[log(1 - h_0) + sum_(bins up to time) log(1 - h_j)]

    A bin that is seen in part counts in part.

    Args:
        logits: l_0, then l_b of each bin.
        arrived: the goal was reached.
        time: the step at which it was, or up to which it was not.
        bins: of time.
    """
    survived = jax.nn.log_sigmoid(-logits)
    seen = jnp.clip((time[:, None] - bins.starts) / bins.sizes, 0.0, 1.0)  # share of each bin
    own = (bins.starts < time[:, None]) & (time[:, None] <= bins.ends)
    later = arrived & (time > 0)
    event = jnp.where(later, jnp.sum(jnp.where(own, jax.nn.log_sigmoid(logits[:, 1:]), 0.0), axis=-1), 0.0)
    before = jnp.where(later[:, None], seen * ~own, seen)
    now = arrived & (time == 0)
    waited = survived[:, 0] + jnp.sum(before * survived[:, 1:], axis=-1)
    return -jnp.where(now, jax.nn.log_sigmoid(logits[:, 0]), waited + event)


def survival_value(
    logits: Float[Array, "*batch bins_and_now"], bins: TimeBins, discount: float
) -> Float[Array, "*batch"]:
    """Return minus the discounted steps without the goal: -sum_(k=0)^(horizon - 1) S(k) discount^k.

    It lies between -(1 - discount^horizon) / (1 - discount), never, and 0, now.
    """
    survival = log_survival(logits)
    # In a bin of n steps S(start + i) discount^(start + i) is geometric in i, with ratio r = discount (1 - h)^(1/n).
    log_ratio = np.log(discount) + jax.nn.log_sigmoid(-logits[..., 1:]) / bins.sizes
    counted = bins.sizes - (bins.ends == bins.horizon)  # step `horizon` itself does not count
    geometric = jnp.exp(log_ratio) * jnp.expm1(counted * log_ratio) / jnp.expm1(log_ratio)
    at_start = jnp.exp(survival[..., :-1] + bins.starts * np.log(discount))
    return -(jnp.exp(survival[..., 0]) + jnp.sum(at_start * geometric, axis=-1))


def time_geometry(
    distance: Float[Array, " batch"], time: Int[Array, " batch"], where: Bool[Array, " batch"], scale: float
) -> Scalar:
    """Return the Huber loss of embedding distances against elapsed time: ||phi - psi|| is to be scale * T.

    Args:
        distance: between the embeddings of a state-action and of its goal.
        time: at which the goal was first reached.
        where: rows in which it was, later than now.
        scale: distance of a step: -log(discount).
    """
    error = jnp.abs(distance - scale * time)
    return mean_where(where, jnp.where(error <= 1.0, 0.5 * jnp.square(error), error - 0.5))


def separation(distances: Float[Array, "batch batch"], where: Bool[Array, "batch batch"], least: float) -> Scalar:
    """Return how much too near embeddings are: the mean of max(0, least - distance) over the pairs of `where`."""
    return mean_where(where.ravel(), jnp.maximum(0.0, least - distances).ravel())


def occupancy_targets(
    nearness: Float[Array, "batch horizon"],
    observed: Int[Array, " batch"],
    failed: Bool[Array, " batch"],
    bins: TimeBins,
) -> tuple[Float[Array, "batch bins"], Bool[Array, "batch bins"]]:
    """Return the mean of `nearness` over the seen steps of each bin, and whether any was seen.

    Args:
        nearness: how near the goal was at each step from 1 on, from 0 to 1.
        observed: steps that were seen.
        failed: the task failed then, after which no goal is reached: all later steps are seen, and zero.
        bins: of time.
    """
    steps = jnp.arange(1, bins.horizon + 1)
    seen = steps <= observed[:, None]
    ends = np.concatenate([[0], bins.ends])

    def in_bins(values: Array) -> Array:
        total = jnp.pad(jnp.cumsum(values, axis=-1), ((0, 0), (1, 0)))[:, ends]
        return jnp.diff(total, axis=-1)

    near = in_bins(jnp.where(seen, nearness, 0.0))
    count = in_bins(jnp.where(failed[:, None], 1.0, seen.astype(nearness.dtype)))
    return near / jnp.maximum(count, 1.0), count > 0


def occupancy_loss(
    logits: Float[Array, "batch bins"],
    target: Float[Array, "batch bins"],
    seen: Bool[Array, "batch bins"],
    valid: Bool[Array, " batch"],
) -> Scalar:
    """Return the binary cross-entropy of how much of each bin is spent at the goal, where it was seen."""
    entropy = -(target * jax.nn.log_sigmoid(logits) + (1.0 - target) * jax.nn.log_sigmoid(-logits))
    return mean_where((seen & valid[:, None]).ravel(), entropy.ravel())


def occupancy_value(logits: Float[Array, "*batch bins"], bins: TimeBins, discount: float) -> Float[Array, "*batch"]:
    """Return the discounted steps at the goal, from step 1 to the horizon."""
    return jnp.sum(jax.nn.sigmoid(logits) * bins.discounted(discount) * discount, axis=-1)
