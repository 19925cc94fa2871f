"""A torso of which some blocks are left out, as data: one compiled program serves every choice of blocks."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kilolayer.errors import ConfigurationError
from kilolayer.nn.stack import StackedTorso
from kilolayer.nn.torso import Observe, Torso, Tree


class MaskedTorso(Torso):
    """A stacked torso in which the blocks that are not kept return their input.

    It computes what `torso.keep_blocks` of the same blocks computes, but the time of all blocks.
    """

    torso: StackedTorso
    kept: Bool[Array, " blocks"]
    """The block is not left out."""

    @property
    def num_blocks(self) -> int:
        """The number of blocks, those that are left out included."""
        return self.torso.num_blocks

    @property
    def depth(self) -> int:
        """The depth with all blocks."""
        return self.torso.depth

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Map the last axis of `x`; any number of leading batch axes."""

        def step(x: Array, block: tuple[Any, Array]) -> tuple[Array, None]:
            parameters, kept = block
            return jnp.where(kept, self.torso.block(x, parameters).stream, x), None

        stream, _ = jax.lax.scan(step, self.torso.embed(x), (self.torso.blocks, self.kept))
        return self.torso.read_out(stream)

    def observe_blocks(self, x: Float[Array, "batch in"], observe: Observe[Tree]) -> Tree:
        """Walk all blocks, as if none were left out; see `Torso.observe_blocks`."""
        return self.torso.observe_blocks(x, observe)

    def block_parameters(self) -> Any:
        """Return the parameters of all blocks."""
        return self.torso.block_parameters()


def with_all_blocks(torso: Torso) -> MaskedTorso:
    """Return a torso of which blocks can be left out, with all of them kept.

    Raises:
        ConfigurationError: if it is no torso of equal blocks, or has none.
    """
    if not isinstance(torso, StackedTorso):
        raise ConfigurationError(f"{type(torso).__name__} is no torso of equal blocks, so none can be left out")
    if torso.num_blocks < 1:
        raise ConfigurationError("the network has no block (depth 0), so none can be left out")
    return MaskedTorso(torso, jnp.ones(torso.num_blocks, bool))
