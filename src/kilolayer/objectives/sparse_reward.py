"""The sparse reward: 1 for every step that ends at the goal, 0 for all others."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Success = Callable[[Float[Array, " goal"], Float[Array, " goal"]], Bool[Array, ""]]
"""Returns whether an achieved goal is at a desired goal."""


def sparse_reward(
    success: Success,
    next_achieved_goal: Float[Array, "*batch goal"],
    next_desired_goal: Float[Array, "*batch goal"],
    has_next: Bool[Array, "*batch"],
) -> Float[Array, "*batch"]:
    """Return 1 where a step has a next state of the same episode that is at the goal, and 0 elsewhere."""
    reached = jnp.vectorize(success, signature="(goal),(goal)->()")(next_achieved_goal, next_desired_goal)
    return jnp.where(has_next, reached.astype(next_achieved_goal.dtype), 0.0)


def mean_where(where: Bool[Array, " batch"], values: Float[Array, " batch"]) -> Float[Array, ""]:
    """Return the mean of the values where a mask is true, and 0 if it is true nowhere."""
    return jnp.sum(jnp.where(where, values, 0.0)) / jnp.maximum(jnp.sum(where), 1)
