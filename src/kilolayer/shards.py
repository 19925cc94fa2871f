"""Shards: the equal parts that environments, replay buffer and batch are cut into, and the devices that hold them.

The number of shards decides what a run computes: every batch takes as many rows from each shard as from any other. The
number of devices does not: each device holds the same number of shards, and one device can hold them all. So a run of
eight shards computes the same on one, two, four or eight devices, up to the order of sums.

Arrays are cut along their environments. In a ring buffer that is the second axis, elsewhere the first; single numbers
are the same for all.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kilolayer.errors import ConfigurationError
from kilolayer.hosts import num_processes

AXIS = "data"
"""Name of the axis of the devices."""

Tree = TypeVar("Tree")
Parameters = ParamSpec("Parameters")


@dataclasses.dataclass(frozen=True)
class Shards:
    """How arrays are cut.

    Attributes:
        count: shards, a multiple of the devices.
        mesh: the devices; None computes everything on the default device.
    """

    count: int = 1
    mesh: Mesh | None = None

    @property
    def devices(self) -> int:
        """Devices that hold the shards."""
        return 1 if self.mesh is None else self.mesh.size

    def sharding(self, spec: PartitionSpec) -> NamedSharding:
        """Return how an array lies on the devices."""
        assert self.mesh is not None
        return NamedSharding(self.mesh, spec)

    def whole(self, tree: Any) -> Any:
        """Return shardings in place of arrays, of which every device holds a copy."""
        return jax.tree.map(lambda _: self.sharding(PartitionSpec()), tree)

    def by_rings(self, tree: Any) -> Any:
        """Return shardings in place of the arrays of a ring buffer."""
        return jax.tree.map(lambda leaf: self.sharding(ring_spec(leaf)), tree)

    def by_rows(self, tree: Any) -> Any:
        """Return shardings in place of arrays with a row for each environment."""
        return jax.tree.map(lambda leaf: self.sharding(row_spec(leaf)), tree)

    def on_rings(self, function: Callable[..., Tree], rings: Tree, *others: Any) -> Tree:
        """Let every device apply a function to its own rings; what is computed of one ring needs no other.

        Args:
            function: takes ring buffers, and returns one such as the first.
            rings: a ring buffer.
            others: more ring buffers, such as a trajectory.
        """
        if self.mesh is None:
            return function(rings, *others)
        specs = jax.tree.map(ring_spec, (rings, *others))
        mapped = jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=specs[0], check_vma=False)
        return mapped(rings, *others)

    def draw(self, sample: Callable[[Any, jax.Array], Tree], rings: Any, key: jax.Array) -> Tree:
        """Let every shard draw rows from its own rings, each with a key of its own.

        Args:
            sample: draws the rows of one shard, given its rings and a key.
            rings: a ring buffer of all shards.
            key: randomness.

        Returns:
            The rows of all shards, one shard behind the other.
        """

        def of_one_device(rings: Any, keys: jax.Array) -> Tree:
            cut, axes = _cut(rings, keys.shape[0])
            rows = jax.vmap(sample, in_axes=(axes, 0))(cut, keys)
            return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rows)

        keys = jax.random.split(key, self.count)
        if self.mesh is None:
            return of_one_device(rings, keys)
        specs = (jax.tree.map(ring_spec, rings), PartitionSpec(AXIS))
        return jax.shard_map(
            of_one_device, mesh=self.mesh, in_specs=specs, out_specs=PartitionSpec(AXIS), check_vma=False
        )(rings, keys)


WHOLE = Shards()
"""Nothing is cut."""


def ring_spec(leaf: Any) -> PartitionSpec:
    """Return the axis of an array of a ring buffer that is cut."""
    return PartitionSpec(*[None, AXIS][2 - min(leaf.ndim, 2) :])


def row_spec(leaf: Any) -> PartitionSpec:
    """Return the axis of an array that is cut where there is a row for each environment."""
    return PartitionSpec(*[AXIS][: leaf.ndim])


def mesh_of(devices: int) -> Mesh | None:
    """Return the first devices of this machine, or of all machines together; None for a single one.

    Args:
        devices: how many.

    Raises:
        ConfigurationError: if there are fewer.
    """
    there = jax.devices()
    if devices > len(there):
        kind = there[0].platform
        trial = f"; XLA_FLAGS=--xla_force_host_platform_device_count={devices} makes as many of a CPU, for a trial"
        raise ConfigurationError(
            f"devices={devices} is more than there are: {len(there)} ({kind}){trial if kind == 'cpu' else ''}"
        )
    if num_processes() > 1 and devices != len(there):
        raise ConfigurationError(
            f"devices={devices} leaves some of {num_processes()} processes without: they have {len(there)} devices "
            "together, which all take part"
        )
    return None if devices == 1 else Mesh(np.array(there[:devices]), (AXIS,))


def spread(value: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Return an array of which every device, also of other processes, takes its own part of a value."""
    return jax.make_array_from_callback(value.shape, sharding, lambda part: value[part])


def by_rows(mesh: Mesh) -> NamedSharding:
    """Return how an array lies on devices that share its first axis."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def each_on_its_device(function: Callable[..., Tree], mesh: Mesh | None) -> Callable[..., Tree]:
    """Return a function that every device applies to its own part of all arrays, along their first axes.

    Args:
        function: takes and returns trees of arrays with equal first axes.
        mesh: the devices; None changes nothing.
    """
    if mesh is None:
        return function
    rows = PartitionSpec(AXIS)
    return jax.shard_map(function, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)


def drawn_by_shards(sample: Callable[Parameters, Tree]) -> Callable[Parameters, Tree]:
    """Let a sampler draw as many rows from each shard as from any other.

    The first argument of the sampler is a ring buffer with `shards`, the second the rows or the shape of a batch, whose
    first axis is cut; one is called `key`.
    """
    signature = inspect.signature(sample)
    rings_name, batch_name = list(signature.parameters)[:2]

    @functools.wraps(sample)
    def sharded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Tree:
        given = signature.bind(*args, **kwargs).arguments
        rings, batch, key = (given.pop(name) for name in (rings_name, batch_name, "key"))
        count = rings.shards.count
        if count == 1 and rings.shards.mesh is None:
            return sample(*args, **kwargs)
        share = batch // count if isinstance(batch, int) else (batch[0] // count, *batch[1:])

        def of_shard(rings: Any, key: jax.Array) -> Tree:
            return sample(**{rings_name: rings, batch_name: share, "key": key}, **given)  # type: ignore[call-arg]

        return rings.shards.draw(of_shard, rings, key)

    return sharded


def _cut(rings: Any, count: int) -> tuple[Any, Any]:
    """Return the arrays of a ring buffer with an axis over shards, and which axis it is."""

    def axis(leaf: Any) -> int | None:
        return None if leaf.ndim == 0 else min(leaf.ndim - 1, 1)

    def cut(leaf: Any) -> Any:
        place = axis(leaf)
        if place is None:
            return leaf
        return leaf.reshape(*leaf.shape[:place], count, -1, *leaf.shape[place + 1 :])

    return jax.tree.map(cut, rings), jax.tree.map(axis, rings)
