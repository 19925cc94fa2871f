"""The reward of agents that are rewarded: 1 for every step that ends at the goal, 0 for all others."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Success = Callable[[Float[Array, " goal"], Float[Array, " goal"]], Bool[Array, ""]]
"""Says of an achieved and a desired goal whether the goal is reached."""


def sparse_reward(
    success: Success,
    next_achieved_goal: Float[Array, "*batch goal"],
    next_desired_goal: Float[Array, "*batch goal"],
    goes_on: Bool[Array, "*batch"],
) -> Float[Array, "*batch"]:
    """Return 1 where the episode goes on after a step and the next state is at the goal, and 0 elsewhere."""
    reached = jnp.vectorize(success, signature="(goal),(goal)->()")(next_achieved_goal, next_desired_goal)
    return jnp.where(goes_on, reached.astype(next_achieved_goal.dtype), 0.0)


def mean_where(where: Bool[Array, " batch"], values: Float[Array, " batch"]) -> Float[Array, ""]:
    """Return the mean of those values that `where` names, and 0 if it names none."""
    return jnp.sum(jnp.where(where, values, 0.0)) / jnp.maximum(jnp.sum(where), 1)
