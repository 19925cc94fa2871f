"""The deep residual MLP: one template for actor, state-action encoder and goal encoder."""

import dataclasses
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.errors import ConfigurationError
from kilolayer.nn.layers import Activation, Dense, HiddenLayer, Normalization

ResidualScaling = Literal["none", "inverse_sqrt"]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What every residual stack of an agent has in common; depth and width are set for each network apart."""

    block_size: int = 4
    """Dense layers in a residual block."""
    activation: Activation = "swish"
    """Activation after every normalisation."""
    normalization: Normalization = "layer"
    """Normalisation after every dense layer."""
    residual: bool = True
    """Add each block's input to its output."""
    residual_scaling: ResidualScaling = "none"
    """Factor on every block's branch: none, or inverse_sqrt: 1/sqrt(number of blocks), the depth-muP of MACRL."""
    checkpoint: str = "none"
    """Activations kept for the backward pass: none (keep all), block (keep each block's input and compute the rest
    again), or a number k (keep every k-th block's input)."""

    def __post_init__(self) -> None:
        """Refuse values that cannot be.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        if self.block_size < 1:
            raise ConfigurationError(f"block_size={self.block_size} must be at least 1")
        if self.residual_scaling not in ("none", "inverse_sqrt"):
            raise ConfigurationError(
                f"residual_scaling={self.residual_scaling!r} is unknown; choose one of none, inverse_sqrt"
            )
        if self.residual_scaling != "none" and not self.residual:
            raise ConfigurationError("residual_scaling needs residual=True: there is no branch to scale")
        self.blocks_per_checkpoint()

    def num_blocks(self, depth: int) -> int:
        """Return the number of residual blocks in a network of `depth` layers.

        Raises:
            ConfigurationError: if `depth` is negative or no multiple of the block size.
        """
        if depth < 0:
            raise ConfigurationError(f"depth={depth} must be 0 or a multiple of block_size={self.block_size}")
        if depth % self.block_size:
            below = depth - depth % self.block_size
            raise ConfigurationError(
                f"depth={depth} is not a multiple of block_size={self.block_size}; "
                f"try {below} or {below + self.block_size}"
            )
        return depth // self.block_size

    def blocks_per_checkpoint(self) -> int | None:
        """Return how many blocks share one saved input; None if every activation is kept.

        Raises:
            ConfigurationError: if `checkpoint` is neither none, block nor a positive number.
        """
        match self.checkpoint:
            case "none":
                return None
            case "block":
                return 1
            case text if text.isdecimal() and int(text) > 0:
                return int(text)
        raise ConfigurationError(
            f"checkpoint={self.checkpoint!r} is unknown; use none, block, or a number of blocks such as 8"
        )


class ResidualMLP(eqx.Module):
    """A residual MLP of any depth (method 1.1).

        x = layer(input)
        repeat depth / block_size times:  x = x + scale * layer(... layer(x))     (block_size layers)
        output = dense(x)

    where a layer is dense, normalisation, activation. The sum comes after the block's last activation; nothing
    follows it. `depth` counts the layers inside the blocks, so depth 0 is the input layer and the head alone.

    The parameters of all blocks are stacked on a leading axis and `jax.lax.scan` walks them, so the compile time
    does not grow with depth.

    A plain building block, good without the rest of the library:

        >>> encoder = ResidualMLP(29, 64, depth=16, width=256, key=jax.random.key(0))
        >>> encoder(jnp.zeros((512, 29))).shape
        (512, 64)
    """

    input_layer: HiddenLayer
    blocks: HiddenLayer | None
    head: Dense
    architecture: Architecture = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        depth: int = 4,
        width: int = 256,
        architecture: Architecture | None = None,
        key: PRNGKeyArray,
    ):
        """Draw the parameters of a network from `in_size` to `out_size` numbers.

        Raises:
            ConfigurationError: if a size is below one or the depth no multiple of the block size.
        """
        architecture = architecture or Architecture()
        for name, value in (("in_size", in_size), ("out_size", out_size), ("width", width)):
            if value < 1:
                raise ConfigurationError(f"{name}={value} must be at least 1")
        num_blocks = architecture.num_blocks(depth)

        def hidden_layer(size: int, key: PRNGKeyArray) -> HiddenLayer:
            return HiddenLayer(
                size,
                width,
                activation=architecture.activation,
                normalization=architecture.normalization,
                key=key,
            )

        input_key, block_key, head_key = jax.random.split(key, 3)
        self.input_layer = hidden_layer(in_size, input_key)
        self.blocks = None
        if num_blocks:
            block_keys = jax.random.split(block_key, (num_blocks, architecture.block_size))
            self.blocks = jax.vmap(jax.vmap(lambda k: hidden_layer(width, k)))(block_keys)
        self.head = Dense(width, out_size, key=head_key)
        self.architecture = architecture

    @property
    def num_blocks(self) -> int:
        """The number of residual blocks."""
        return 0 if self.blocks is None else self.blocks.dense.bias.shape[0]

    @property
    def depth(self) -> int:
        """The number of dense layers inside residual blocks."""
        return self.num_blocks * self.architecture.block_size

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Map the last axis of `x`; any number of leading batch axes."""
        return self.head(self.trunk(x))

    def trunk(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch width"]:
        """Return the features in front of the head."""
        x = self.input_layer(x)
        if self.blocks is None:
            return x
        group = self.architecture.blocks_per_checkpoint()
        if group is None:
            return self._walk(x, self.blocks)
        whole = self.num_blocks - self.num_blocks % group
        if whole:
            groups = jax.tree.map(lambda p: p[:whole].reshape(-1, group, *p.shape[1:]), self.blocks)
            walk = jax.checkpoint(lambda x, blocks: self._walk(x, blocks), prevent_cse=False)
            x, _ = jax.lax.scan(lambda x, blocks: (walk(x, blocks), None), x, groups)
        if whole < self.num_blocks:
            rest = jax.tree.map(lambda p: p[whole:], self.blocks)
            x = jax.checkpoint(lambda x, blocks: self._walk(x, blocks))(x, rest)
        return x

    def _walk(self, x: Float[Array, "*batch width"], blocks: HiddenLayer) -> Float[Array, "*batch width"]:
        """Apply stacked `blocks` one after the other."""
        x, _ = jax.lax.scan(lambda x, block: (self._block(x, block), None), x, blocks)
        return x

    def _block(self, x: Float[Array, "*batch width"], block: HiddenLayer) -> Float[Array, "*batch width"]:
        """Apply one residual block, whose layers are stacked on the leading axis."""
        h = x
        for index in range(self.architecture.block_size):
            h = jax.tree.map(lambda p, i=index: p[i], block)(h)
        if self.architecture.residual_scaling == "inverse_sqrt":
            h = h / jnp.sqrt(float(self.num_blocks))
        return x + h if self.architecture.residual else h
