"""Advantages: generalised estimation (Schulman et al., 2016), and what offline learners do with them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kilolayer.objectives.sparse_reward import mean_where


def generalized_advantages(
    reward: Float[Array, "time num_envs"],
    value: Float[Array, "time num_envs"],
    has_next: Bool[Array, "time num_envs"],
    terminated: Bool[Array, "time num_envs"],
    discount: float,
    gae_lambda: float,
) -> Float[Array, "time num_envs"]:
    """Return the sum of the temporal differences to come, the one l steps later with weight (discount gae_lambda)^l.

    Args:
        reward: of each step.
        value: of the state before each step.
        has_next: whether the next row is the next step of the same episode.
        terminated: whether the task failed with this step, so that nothing follows.
        discount: weight of what follows one step later.
        gae_lambda: weight of a temporal difference one step later, in addition to the discount.

    Returns:
        The advantages (Schulman et al., 2016, equation 16); 0 for a step that has no next step and is not terminated.
    """
    following = discount * jnp.where(has_next, jnp.roll(value, -1, axis=0), 0.0)
    difference = jnp.where(has_next | terminated, reward + following - value, 0.0)
    weight = discount * gae_lambda * has_next.astype(value.dtype)

    def back(later: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
        difference, weight = row
        advantage = difference + weight * later
        return advantage, advantage

    return jax.lax.scan(back, jnp.zeros_like(value[0]), (difference, weight), reverse=True)[1]


def normalized(values: Float[Array, " steps"], where: Bool[Array, " steps"]) -> Float[Array, " steps"]:
    """Return the values with mean 0 and standard deviation 1 where a mask is true."""
    centred = values - mean_where(where, values)
    return centred / (jnp.sqrt(mean_where(where, jnp.square(centred))) + 1e-8)


def expectile_loss(
    advantage: Float[Array, "*batch"], error: Float[Array, "*batch"], expectile: float
) -> Float[Array, "*batch"]:
    """Return squared errors, weighed by `expectile` where the advantage is positive and by 1 - expectile elsewhere.

    With the advantage as error, the value that minimises the mean is the expectile of what is estimated: above the
    mean for more than 0.5 (Kostrikov et al., 2022, equation 5).
    """
    return jnp.where(advantage >= 0.0, expectile, 1.0 - expectile) * jnp.square(error)


def advantage_weights(
    advantage: Float[Array, "*batch"], sharpness: float, most: float = 100.0
) -> Float[Array, "*batch"]:
    """Return exp(sharpness * advantage), at most `most`: weights of actions to imitate (Peng et al., 2019)."""
    return jnp.minimum(jnp.exp(sharpness * advantage), most)
