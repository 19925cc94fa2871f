"""Resetting some of many environments."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

Tree = TypeVar("Tree")


def where_envs(where: Bool[Array, " num_envs"], fresh: Tree, current: Tree) -> Tree:
    """Combine two batches of states.

    Args:
        where: which environments to take from `fresh`.
        fresh: pytree with a leading axis over environments.
        current: pytree of the same structure, for all other environments.
    """

    def choose(fresh: Array, current: Array) -> Array:
        return jnp.where(where.reshape(-1, *(1,) * (current.ndim - 1)), fresh, current)

    return jax.tree.map(choose, fresh, current)
