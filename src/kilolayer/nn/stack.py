"""Torsos made of equal blocks: one scan walks the stacked blocks, so compile time does not grow with depth.

A kind of torso derives from `StackedTorso` and says what lies before the blocks, what one block computes, and what
follows the blocks. Rematerialisation, diagnostics, growth and the int8 form are the same for all kinds.
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kilolayer.errors import ConfigurationError
from kilolayer.memory import device_memory
from kilolayer.nn.dense import Precision
from kilolayer.nn.quantized import quantize
from kilolayer.nn.remat import BlockNumbers, blocks_per_save, check_remat, choose_remat
from kilolayer.nn.torso import Architecture, Observe, Torso, Tree

Chain = Literal["auto", "plain", "short"]


@dataclasses.dataclass(frozen=True)
class StackedArchitecture(Architecture):
    """Settings that all stacked torsos share."""

    remat: str = "auto"
    """Activations kept for the backward pass: none (keep all), layer (keep each matrix product, compute the rest
    again), block (keep each block's input), a number k (keep every k-th block's input), or auto: an agent takes the
    first of layer, block, 2, 4, ... that fits into memory; a network on its own takes layer."""
    unroll: int = 1
    """Blocks in one iteration of the scan: more take longer to compile, and may run faster."""
    chain: Chain = "auto"
    """How a gradient step walks networks. plain: each by itself. short: networks of equal shape walk together, and the
    gradients of weights are one product behind the walk: fewer products wait for each other, and more is in memory.
    auto: short on a GPU where it fits into memory, else plain."""
    precision: Precision = "tf32"
    """Precision of matrix products: float32; tf32 (float32 where the device has no such unit, as on every CPU); or
    bfloat16 with sums in float32. Parameters, normalisations and losses are always float32."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        if self.unroll < 1:
            raise ConfigurationError(f"unroll={self.unroll} must be at least 1")
        if self.precision not in get_args(Precision):
            raise ConfigurationError(
                f"precision={self.precision!r} is unknown; choose one of {', '.join(get_args(Precision))}"
            )
        if self.chain not in get_args(Chain):
            raise ConfigurationError(f"chain={self.chain!r} is unknown; choose one of {', '.join(get_args(Chain))}")
        if self.chain == "short" and self.remat not in ("auto", "layer"):
            raise ConfigurationError(
                f"chain='short' keeps every product, so remat={self.remat!r} must be auto or layer"
            )
        check_remat(self.remat)

    @property
    @abc.abstractmethod
    def layers_per_block(self) -> int:
        """How much depth a block has."""

    @abc.abstractmethod
    def block_numbers(self, width: int) -> BlockNumbers:
        """Return how many numbers a block of this width has to keep."""

    def num_blocks(self, depth: int) -> int:
        """Return the number of blocks in a network of this depth.

        Raises:
            ConfigurationError: if the depth is negative or not a multiple of the depth of a block.
        """
        layers, name = self.layers_per_block, self._layers_per_block_text
        if depth < 0:
            raise ConfigurationError(f"depth={depth} must be 0 or a multiple of {name}")
        if depth % layers:
            below = depth - depth % layers
            raise ConfigurationError(f"depth={depth} is not a multiple of {name}; try {below} or {below + layers}")
        return depth // layers

    @property
    def _layers_per_block_text(self) -> str:
        """The depth of a block, as errors call it."""
        return f"{self.layers_per_block}, the layers of a block"

    def resolve(self, *, batch_size: int, depth: int, width: int, copies: int = 1) -> "StackedArchitecture":
        """Return these settings with a choice in place of `auto`, for this device and these sizes.

        Args:
            batch_size: rows in a gradient step.
            depth: of the deepest network.
            width: of the widest network.
            copies: agents that share the memory, such as those of several seeds.
        """
        memory = device_memory()
        sizes: dict[str, Any] = {
            "batch_size": batch_size,
            "num_blocks": self.num_blocks(depth),
            "memory": None if memory is None else memory // copies,
        }
        numbers, remat, chain = self.block_numbers(width), self.remat, self.chain
        if chain == "auto":
            fits = remat in ("auto", "layer") and choose_remat(numbers.of_a_short_chain, **sizes) == "layer"
            chain = "short" if fits and jax.default_backend() == "gpu" else "plain"
        if remat == "auto":
            remat = "layer" if chain == "short" else choose_remat(numbers, **sizes)
        return dataclasses.replace(self, remat=remat, chain=chain)

    def walk(self, apply: Callable[[Array, Any], Array], x: Array, blocks: Any) -> Array:
        """Apply stacked blocks one after the other, keeping for the backward pass the activations that `remat` names.

        Args:
            apply: returns the stream after a block, from the stream before it and the block's parameters.
            x: the stream before the first block.
            blocks: parameters of all blocks, stacked on a leading axis.

        Returns:
            The stream after the last block.
        """
        group = blocks_per_save(self.remat)
        if group is None:
            return self._scan(apply, x, blocks)
        num_blocks = jax.tree.leaves(blocks)[0].shape[0]
        whole = num_blocks - num_blocks % group
        walk = jax.checkpoint(lambda x, blocks: self._scan(apply, x, blocks), prevent_cse=False)
        if whole:
            groups = jax.tree.map(lambda p: p[:whole].reshape(-1, group, *p.shape[1:]), blocks)
            x, _ = jax.lax.scan(lambda x, blocks: (walk(x, blocks), None), x, groups)
        if whole < num_blocks:
            x = walk(x, jax.tree.map(lambda p: p[whole:], blocks))
        return x

    def _scan(self, apply: Callable[[Array, Any], Array], x: Array, blocks: Any) -> Array:
        if self.remat != "none":
            # What lies between two matrix products is cheaper to compute again than to write to memory and read back.
            apply = jax.checkpoint(apply, policy=jax.checkpoint_policies.dots_saveable, prevent_cse=False)
        x, _ = jax.lax.scan(lambda x, block: (apply(x, block), None), x, blocks, unroll=self.unroll)
        return x


class BlockOutput(NamedTuple):
    """What one block computes."""

    stream: Array
    """The stream after the block."""
    added: Array
    """What the block adds to the stream before it."""
    layers: list[Array]
    """The activations of the block's layers, of equal shapes, whose units diagnostics look at."""


class StackedTorso(Torso):
    """A torso of equal blocks, which computes `read_out(block(... block(embed(x))))`.

    The stream between blocks has the width as its last axis; all axes before it are rows.
    """

    blocks: eqx.AbstractVar[Any]
    """Parameters of all blocks, stacked on a leading axis; None without blocks."""
    architecture: eqx.AbstractVar[Any]
    """The settings, a `StackedArchitecture`."""

    @abc.abstractmethod
    def embed(self, x: Float[Array, "*batch in"]) -> Float[Array, "*rows width"]:
        """Return the stream before the first block."""

    @abc.abstractmethod
    def block(self, x: Float[Array, "*rows width"], parameters: Any) -> BlockOutput:
        """Apply one block, given its parameters."""

    @abc.abstractmethod
    def read_out(self, x: Float[Array, "*rows width"]) -> Float[Array, "*batch out"]:
        """Return the output from the stream after the last block."""

    def identity_blocks(self) -> Any:
        """Return the blocks changed such that each adds zero to its input and can learn.

        Raises:
            ConfigurationError: if this kind of torso cannot grow.
        """
        raise ConfigurationError(f"{type(self).__name__} cannot grow; leave grow out, or choose another torso")

    @property
    def num_blocks(self) -> int:
        """The number of blocks; 0 if all their parameters are masked, as in the state of an optimiser of other ones."""
        stacked = jax.tree.leaves(self.blocks)
        return stacked[0].shape[0] if stacked else 0

    @property
    def depth(self) -> int:
        """The depth, as the settings of this kind of torso count it."""
        return self.num_blocks * self.architecture.layers_per_block

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Map the last axis of `x`; any number of leading batch axes."""
        return self.read_out(self.trunk(x))

    def infer(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Return what a call returns, without rematerialisation, whose groups of blocks are slow for few rows."""
        return self.read_out(self._walk(x, dataclasses.replace(self.architecture, remat="none", chain="plain")))

    def trunk(self, x: Float[Array, "*batch in"]) -> Float[Array, "*rows width"]:
        """Return the stream after the last block."""
        return self._walk(x, self.architecture)

    def _walk(self, x: Array, architecture: StackedArchitecture) -> Array:
        x = self.embed(x)
        return x if self.blocks is None else self.walk_blocks(x, self.blocks, architecture)

    def walk_blocks(
        self, x: Float[Array, "*rows width"], blocks: Any, architecture: StackedArchitecture
    ) -> Float[Array, "*rows width"]:
        """Return the stream after the last block.

        Args:
            x: the stream before the first block.
            blocks: parameters of all blocks, stacked on a leading axis.
            architecture: the settings.
        """
        return architecture.walk(lambda x, block: self.block(x, block).stream, x, blocks)

    def walks_with(self, x: Array, other: Torso, other_x: Array) -> bool:
        """Return whether both have blocks of the same kind and shapes, as many rows, and a short chain is asked for."""

        def form(torso: StackedTorso, x: Array) -> Any:
            return jax.eval_shape(lambda torso, x: (torso.embed(x), torso.blocks), torso, x)

        return (
            self.architecture.chain == "short"
            and isinstance(other, StackedTorso)
            and type(other) is type(self)
            and other.architecture == self.architecture
            and self.blocks is not None
            and form(self, x) == form(other, other_x)
        )

    def call_with(self, calls: Sequence[tuple["StackedTorso", Array]]) -> list[Array]:
        """Return what each network gives for its input, in one walk over stacked parameters."""
        streams = jnp.stack([torso.embed(x) for torso, x in calls])
        blocks = jax.tree.map(lambda *each: jnp.stack(each), *(torso.blocks for torso, _ in calls))
        walked = jax.vmap(lambda x, blocks: self.walk_blocks(x, blocks, self.architecture))(streams, blocks)
        return [torso.read_out(stream) for (torso, _), stream in zip(calls, walked, strict=True)]

    def observe_blocks(self, x: Float[Array, "batch in"], observe: Observe[Tree]) -> Tree:
        """Walk the blocks on a batch, and return what `observe` returns for each, stacked on a leading axis."""

        def rows(x: Array) -> Array:
            return x.reshape(-1, x.shape[-1])

        def step(x: Array, block: Any) -> tuple[Array, Tree]:
            output = self.block(x, block)
            return output.stream, observe(rows(x), rows(output.added), jnp.stack([*map(rows, output.layers)]))

        return jax.lax.scan(step, self.embed(x), self.blocks)[1]

    def block_parameters(self) -> Any:
        """Return the parameters of all blocks, stacked on a leading axis; None without blocks."""
        return self.blocks

    def graft(self, shallow: Torso) -> "StackedTorso":
        """Return this torso with all parameters of `shallow`; its other blocks start as the identity.

        So both compute the same function, and the new blocks learn from the first gradient step on. Adam's moments
        have the form of a torso and grow in the same way: their new blocks are zero.

        Args:
            shallow: a torso of the same kind and sizes with at most as many blocks.

        Raises:
            ConfigurationError: if the torsos cannot grow, or not to this depth.
        """
        self.architecture.check_growable()
        if not isinstance(shallow, StackedTorso) or type(shallow) is not type(self):
            raise ConfigurationError(f"{type(shallow).__name__} cannot grow into a {type(self).__name__}")
        kept = shallow.num_blocks
        if self.num_blocks < kept:
            raise ConfigurationError(
                f"depth={self.depth} is less than the network's own {shallow.depth}; it can only grow"
            )
        self.check_graft(shallow)
        blocks = None if self.blocks is None else self.identity_blocks()
        if shallow.blocks is not None:
            blocks = jax.tree.map(lambda old, new: jnp.concatenate([old, new[kept:]]), shallow.blocks, blocks)
        form, rest = jax.tree.structure(_with_blocks(self, None)), jax.tree.leaves(_with_blocks(shallow, None))
        return _with_blocks(jax.tree.unflatten(form, rest), blocks)

    def check_graft(self, shallow: "StackedTorso") -> None:
        """Check that the blocks of `shallow` compute in this torso what they compute in their own.

        Raises:
            ConfigurationError: if they do not.
        """

    def keep_blocks(self, kept: Sequence[int]) -> "StackedTorso":
        """Return the torso with some of its blocks, each with the parameters and the settings that it has here.

        Args:
            kept: numbers of the blocks that stay, in rising order.

        Raises:
            ConfigurationError: if a number is no block, or the order is another.
        """
        numbers = list(kept)
        if numbers != sorted(set(numbers)) or not set(numbers) <= set(range(self.num_blocks)):
            raise ConfigurationError(f"kept blocks {numbers} must be rising numbers from 0 to {self.num_blocks - 1}")
        blocks = jax.tree.map(lambda p: p[jnp.asarray(numbers)], self.blocks) if numbers else None
        return _with_blocks(_with_architecture(self, self.architecture.growing_to(self.depth)), blocks)

    def quantize(self) -> "StackedTorso":
        """Return the torso with 8 bit weights in every dense layer of its blocks, to act and not to learn."""
        return _with_blocks(self, quantize(self.blocks))


def _with_architecture(torso: Any, architecture: StackedArchitecture) -> Any:
    """Return a torso with the same parameters and other settings."""
    other = object.__new__(type(torso))
    for field in dataclasses.fields(torso):
        value = architecture if field.name == "architecture" else getattr(torso, field.name)
        object.__setattr__(other, field.name, value)
    return other


def _with_blocks(torso: Any, blocks: Any) -> Any:
    """Return a torso with other blocks."""
    return eqx.tree_at(lambda torso: torso.blocks, torso, blocks, is_leaf=lambda node: node is None)
