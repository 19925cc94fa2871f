"""A network of your own in one file: residual blocks of one layer, each with a learned gate.

    kilolayer --import examples/my_torso.py train reacher --torso my_torso --architecture.gate 0.2

Every agent trains with it; diagnostics, seeds and resuming work.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.errors import ConfigurationError
from kilolayer.nn import Architecture, Dense, HiddenLayer, Torso, TorsoSpec, register_torso


class MyTorso(Torso):
    """x = layer(input); then for every block x = x + gate * layer(x); the output is dense(x)."""

    input_layer: HiddenLayer
    blocks: HiddenLayer
    gates: Float[Array, " blocks"]
    head: Dense

    @property
    def num_blocks(self) -> int:
        """The number of blocks."""
        return self.blocks.dense.bias.shape[0]

    depth = num_blocks  # a block is one layer

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Map the last axis of `x`."""

        def step(x: Array, block: tuple[HiddenLayer, Array]) -> tuple[Array, None]:
            layer, gate = block
            return x + gate * layer(x), None

        return self.head(jax.lax.scan(step, self.input_layer(x), (self.blocks, self.gates))[0])

    def observe_blocks(self, x, observe):
        """Return what `observe` returns of each block, stacked."""

        def step(x, block):
            layer, gate = block
            units = layer(x)
            return x + gate * units, observe(x, gate * units, units[None])

        return jax.lax.scan(step, self.input_layer(x), (self.blocks, self.gates))[1]

    def block_parameters(self) -> tuple[HiddenLayer, Array]:
        """Return the parameters of all blocks, stacked."""
        return self.blocks, self.gates


@dataclasses.dataclass(frozen=True)
class MyArchitecture(Architecture):
    """Settings of the network; depth counts its blocks, which have one layer each."""

    gate: float = 0.1
    """Every gate at the start."""

    def num_blocks(self, depth: int) -> int:
        """Return the number of blocks."""
        if depth < 1:
            raise ConfigurationError(f"depth={depth} must be at least 1")
        return depth

    def build(self, in_size: int, out_size: int, *, depth: int, width: int, key: PRNGKeyArray) -> MyTorso:
        """Return a new network."""
        keys = jax.random.split(key, 3)
        blocks = jax.vmap(lambda key: HiddenLayer(width, width, key=key))(jax.random.split(keys[1], depth))
        first, last = HiddenLayer(in_size, width, key=keys[0]), Dense(width, out_size, key=keys[2])
        return MyTorso(first, blocks, jnp.full(depth, self.gate), last)


register_torso(TorsoSpec("my_torso", "residual blocks of one layer with learned gates", MyArchitecture))
