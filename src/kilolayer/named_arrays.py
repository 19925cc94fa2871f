"""Pytrees of arrays as arrays by name: a name is the path to a leaf, such as `actor.blocks.dense.weight`."""

from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.shards import spread

Tree = TypeVar("Tree")


def to_arrays(tree: Any) -> dict[str, Any]:
    """Return all leaves that hold numbers by name, copied to the host: training reuses the memory of its state.

    Of several processes, each returns the arrays that are spread over them as they are.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): _copied(_numbers(leaf)) for path, leaf in leaves if leaf.size}


def _copied(array: Any) -> Any:
    """Return a copy on the host; of an array that is spread over several processes, the array itself."""
    whole = getattr(array, "is_fully_addressable", True) or array.is_fully_replicated
    return np.array(array, copy=True) if whole else array


def fill(template: Tree, arrays: Mapping[str, np.ndarray], *, others: bool = False) -> Tree:
    """Return a tree with the structure of `template` and its leaves taken from `arrays`.

    Args:
        template: a tree of arrays or `jax.ShapeDtypeStruct`. Where one of these has a sharding, its array gets it.
        arrays: as `to_arrays` returns them.
        others: `arrays` may hold other arrays too.

    Raises:
        ValueError: in one line, if an array is missing or unknown, or one has another shape or type.
    """
    unknown = set(arrays)

    def take(path: tuple, leaf: Any) -> Any:
        name = _name(path)
        expected = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
        value = arrays.get(name) if expected.size else np.zeros(expected.shape, expected.dtype)
        unknown.discard(name)
        if value is None or value.shape != expected.shape or value.dtype != expected.dtype:
            found = "nothing" if value is None else f"{value.dtype}{list(value.shape)}"
            raise ValueError(f"{name} should be {expected.dtype}{list(expected.shape)}, found {found}")
        return value

    found = jax.tree_util.tree_map_with_path(take, template)
    if unknown and not others:
        raise ValueError(f"{min(unknown)} has no place")
    if not any(isinstance(leaf, jax.ShapeDtypeStruct) and leaf.sharding for leaf in jax.tree.leaves(template)):
        found = jax.device_put(found)  # all at once
    return jax.tree.map(_placed, template, found)


def _placed(leaf: Any, value: Any) -> jax.Array:
    """Return a value in the place of a leaf, on the devices that it names."""
    where = leaf.sharding if isinstance(leaf, jax.ShapeDtypeStruct) else None
    if where is not None:  # each device, and each process, takes its own part
        value = spread(value, where)
    return jax.random.wrap_key_data(value) if _is_key(leaf) else value


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _numbers(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
