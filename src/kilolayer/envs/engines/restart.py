"""Putting some robots back to a start, and leaving the others as they are."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

Tree = TypeVar("Tree")


def where_envs(where: Bool[Array, " num_envs"], fresh: Tree, current: Tree) -> Tree:
    """Take the environments that `where` names from `fresh`, and the others from `current`."""

    def choose(fresh: Array, current: Array) -> Array:
        return jnp.where(where.reshape(-1, *(1,) * (current.ndim - 1)), fresh, current)

    return jax.tree.map(choose, fresh, current)
