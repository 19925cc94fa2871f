"""The deep residual MLP of "1000 Layer Networks for Self-Supervised RL" (Wang et al., 2025, section 3)."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, get_args

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.errors import ConfigurationError
from kilolayer.nn.dense import Dense
from kilolayer.nn.kernel_check import kernels_agree
from kilolayer.nn.kernels import PRECISIONS, WIDTHS, check_device, run_here
from kilolayer.nn.layers import Activation, HiddenLayer, Normalization
from kilolayer.nn.remat import BlockNumbers
from kilolayer.nn.short_chain import walk_layers
from kilolayer.nn.stack import BlockOutput, StackedArchitecture, StackedTorso
from kilolayer.nn.torso import TorsoSpec, check_sizes, register_torso

Kernels = Literal["auto", "fused", "xla"]
ResidualScaling = Literal["auto", "none", "inverse_sqrt"]

GROWABLE_ACTIVATIONS = ("swish", "gelu")
"""Activations that map 0 to 0 with a slope that is not 0: a branch that is 0 under them still has a gradient."""

SCALED_FROM_DEPTH = 128
"""Depth from which `auto` scales branches. The paper, most of whose networks have up to 64 layers, does not scale."""


@dataclasses.dataclass(frozen=True)
class ResidualArchitecture(StackedArchitecture):
    """Settings of the residual MLP. `depth` counts the dense layers inside residual blocks, a multiple of the block
    size.
    """

    block_size: int = 4
    """Dense layers in a residual block."""
    activation: Activation = "swish"
    """Activation after every normalisation."""
    normalization: Normalization = "layer"
    """Normalisation after every dense layer."""
    residual: bool = True
    """Add each block's input to its output."""
    residual_scaling: ResidualScaling = "auto"
    """Factor on every block's branch: none; inverse_sqrt: 1/sqrt(number of blocks), as MACRL scales; auto: none below
    depth 128, inverse_sqrt from there on."""
    scaled_for_depth: int | None = None
    """Depth whose number of blocks residual_scaling takes; None takes the network's own. A network that grows takes the
    depth that it grows to, so that the factor does not change."""
    kernels: Kernels = "auto"
    """What walks the blocks of a short chain. fused: kernels that walk all blocks in one launch, on a GPU, in tf32 or
    bfloat16, for widths of 64, 128, 256, 512 and 1024. xla: what XLA makes of a scan. auto: fused where it runs and
    gives what XLA gives, else xla."""
    zero_init: bool = False
    """Start the last dense layer of every block with zero weights, as MACRL does, so that a new network is its input
    layer and its head. Normalisation follows that layer, so branches reach their full size after a few updates."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        super().__post_init__()
        if self.kernels not in get_args(Kernels):
            raise ConfigurationError(
                f"kernels={self.kernels!r} is unknown; choose one of {', '.join(get_args(Kernels))}"
            )
        if self.kernels == "fused":
            if self.chain == "plain":
                raise ConfigurationError("kernels='fused' walks a short chain, so chain='plain' must be auto or short")
            if self.remat not in ("auto", "layer"):
                raise ConfigurationError(
                    f"kernels='fused' keeps every product, so remat={self.remat!r} must be auto or layer"
                )
            if self.precision not in PRECISIONS:
                raise ConfigurationError(
                    f"kernels='fused' needs precision={' or '.join(PRECISIONS)}, not {self.precision!r}"
                )
        if self.block_size < 1:
            raise ConfigurationError(f"block_size={self.block_size} must be at least 1")
        if self.residual_scaling not in get_args(ResidualScaling):
            raise ConfigurationError(
                f"residual_scaling={self.residual_scaling!r} is unknown; "
                f"choose one of {', '.join(get_args(ResidualScaling))}"
            )
        if self.residual_scaling == "inverse_sqrt" and not self.residual:
            raise ConfigurationError("residual_scaling needs residual=True: there is no branch to scale")
        if self.scaled_for_depth is not None:
            if self.residual_scaling == "none":
                raise ConfigurationError(
                    f"scaled_for_depth={self.scaled_for_depth} needs residual_scaling=inverse_sqrt or auto"
                )
            if self.num_blocks(self.scaled_for_depth) < 1:
                raise ConfigurationError(f"scaled_for_depth={self.scaled_for_depth} must be at least {self.block_size}")
        if self.zero_init:
            if not self.residual:
                raise ConfigurationError("zero_init=True needs residual=True: without it a new network is constant")
            if self.activation not in GROWABLE_ACTIVATIONS:
                raise ConfigurationError(
                    f"zero_init=True needs an activation with a slope at 0, which activation={self.activation!r} is "
                    f"not; choose one of {', '.join(GROWABLE_ACTIVATIONS)}"
                )

    @property
    def layers_per_block(self) -> int:
        """Dense layers in a residual block."""
        return self.block_size

    @property
    def _layers_per_block_text(self) -> str:
        return f"block_size={self.block_size}"

    def block_numbers(self, width: int) -> BlockNumbers:
        """Return how many numbers a block of this width has to keep."""
        return BlockNumbers(
            parameters=self.block_size * width * (width + 3), stream=width, products=self.block_size * width
        )

    def branch_factor(self, num_blocks: int) -> float:
        """Return the factor on every block's branch in a network of so many blocks."""
        if self.scaled_for_depth is not None:
            num_blocks = self.num_blocks(self.scaled_for_depth)
        deep = self.residual and num_blocks * self.block_size >= SCALED_FROM_DEPTH
        scaled = self.residual_scaling == "inverse_sqrt" or (self.residual_scaling == "auto" and deep)
        return num_blocks**-0.5 if scaled else 1.0

    def check_width(self, width: int) -> None:
        """Check that the kernels can walk a network of this width.

        Raises:
            ConfigurationError: naming the width and the valid ones.
        """
        if self.kernels == "fused" and width not in WIDTHS:
            raise ConfigurationError(
                f"kernels='fused' walks networks of width {', '.join(map(str, WIDTHS))}, not {width}"
            )

    def check_device(self) -> None:
        """Check that networks with these settings can learn on this device.

        Raises:
            ConfigurationError: if the kernels cannot run here.
        """
        if self.kernels == "fused":
            check_device()

    def spread(self) -> "ResidualArchitecture":
        """Return these settings without the fused kernels, which know the rows of one device alone.

        Raises:
            ConfigurationError: if the kernels were asked for.
        """
        if self.kernels == "fused":
            raise ConfigurationError("kernels='fused' walks the rows of one device; on several, take kernels='xla'")
        return dataclasses.replace(self, kernels="xla")

    def resolve(self, *, batch_size: int, depth: int, width: int, copies: int = 1) -> "ResidualArchitecture":
        """Return these settings with a choice in place of `auto`; see `Architecture.resolve`."""
        own = dataclasses.replace(self, chain="short") if self.kernels == "fused" else self
        resolved = super(ResidualArchitecture, own).resolve(
            batch_size=batch_size, depth=depth, width=width, copies=copies
        )
        assert isinstance(resolved, ResidualArchitecture)
        if self.kernels != "auto":
            return resolved
        walked = resolved.chain == "short" and jax.default_backend() == "gpu" and width in WIDTHS
        fits = walked and self.precision in PRECISIONS
        return dataclasses.replace(resolved, kernels="fused" if fits and self._kernels_agree(width) else "xla")

    def _kernels_agree(self, width: int) -> bool:
        return kernels_agree(
            width,
            block_size=self.block_size,
            residual=self.residual,
            normalization=self.normalization,
            activation=self.activation,
            precision=self.precision,
        )

    def build(self, in_size: int, out_size: int, *, depth: int, width: int, key: PRNGKeyArray) -> "ResidualMLP":
        """Return a new network; see `ResidualMLP`."""
        return ResidualMLP(in_size, out_size, depth=depth, width=width, architecture=self, key=key)

    def check_growable(self) -> None:
        """Check that a new block can start as the identity and learn.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        if not self.residual:
            raise ConfigurationError(
                "residual=False cannot grow: no new layer would start as the identity; leave it True"
            )
        if self.activation not in GROWABLE_ACTIVATIONS:
            raise ConfigurationError(
                f"activation={self.activation!r} cannot grow: new blocks would start where its slope is 0 and "
                f"never learn; choose one of {', '.join(GROWABLE_ACTIVATIONS)}"
            )

    def growing_to(self, depth: int) -> "ResidualArchitecture":
        """Return these settings with the branch factor of a network of this depth."""
        if self.residual_scaling == "none" or self.scaled_for_depth is not None:
            return self
        return dataclasses.replace(self, scaled_for_depth=depth)


class ResidualMLP(StackedTorso):
    """A residual MLP of any depth (Wang et al., 2025, section 3).

        x = layer(input)
        repeat depth / block_size times:  x = x + factor * layer(... layer(x))     (block_size layers)
        output = dense(x)

    A layer is dense, normalisation, activation. The sum comes after the block's last activation, and nothing follows
    it. `depth` counts the layers inside the blocks, so depth 0 is the input layer and the head.

    It works without the rest of the library:

        >>> encoder = ResidualMLP(29, 64, depth=16, width=256, key=jax.random.key(0))
        >>> encoder(jnp.zeros((512, 29))).shape
        (512, 64)
    """

    input_layer: HiddenLayer
    blocks: HiddenLayer | None
    head: Dense
    architecture: ResidualArchitecture = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        depth: int = 4,
        width: int = 256,
        architecture: ResidualArchitecture | None = None,
        key: PRNGKeyArray,
    ):
        """Draw the parameters.

        Args:
            in_size: numbers that it takes.
            out_size: numbers that it returns.
            depth: dense layers inside the blocks.
            width: units in a layer.
            architecture: all other settings; None takes the defaults.
            key: randomness of the parameters.

        Raises:
            ConfigurationError: if a size is below one, or the depth not a multiple of the block size.
        """
        architecture = architecture or ResidualArchitecture()
        check_sizes(in_size=in_size, out_size=out_size, width=width)
        num_blocks = architecture.num_blocks(depth)

        def hidden_layer(size: int, key: PRNGKeyArray) -> HiddenLayer:
            return HiddenLayer(
                size,
                width,
                activation=architecture.activation,
                normalization=architecture.normalization,
                precision=architecture.precision,
                key=key,
            )

        input_key, block_key, head_key = jax.random.split(key, 3)
        self.input_layer = hidden_layer(in_size, input_key)
        self.blocks = None
        if num_blocks:
            block_keys = jax.random.split(block_key, (num_blocks, architecture.block_size))
            self.blocks = jax.vmap(jax.vmap(lambda k: hidden_layer(width, k)))(block_keys)
            if architecture.zero_init:
                self.blocks = _zero_last(self.blocks, lambda blocks: blocks.dense.weight)
        self.head = Dense(width, out_size, precision=architecture.precision, key=head_key)
        self.architecture = architecture

    @property
    def branch_factor(self) -> float:
        """The factor on every block's branch."""
        return self.architecture.branch_factor(self.num_blocks)

    def embed(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch width"]:
        """Apply the input layer."""
        return self.input_layer(x)

    def block(self, x: Float[Array, "*batch width"], parameters: HiddenLayer) -> BlockOutput:
        """Apply one residual block, whose layers are stacked on the leading axis of `parameters`."""
        activations = [x]
        for index in range(self.architecture.block_size):
            layer = jax.tree.map(lambda p, i=index: p[i], parameters)
            activations.append(layer(activations[-1]))
        added = self.branch_factor * activations[-1]
        return BlockOutput(x + added if self.architecture.residual else added, added, activations[1:])

    def walk_blocks(
        self, x: Float[Array, "*batch width"], blocks: HiddenLayer, architecture: StackedArchitecture
    ) -> Float[Array, "*batch width"]:
        """Return the stream after the last block; with a short chain, gradients of weights leave the walk."""
        if architecture.chain != "short":
            return super().walk_blocks(x, blocks, architecture)
        own = self.architecture
        fused = own.kernels == "fused" and x.shape[-1] in WIDTHS and run_here()
        return walk_layers(x, blocks, factor=self.branch_factor, residual=own.residual, unroll=own.unroll, fused=fused)

    def read_out(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch out"]:
        """Apply the head."""
        return self.head(x)

    def check_graft(self, shallow: StackedTorso) -> None:
        """Check that both torsos have the same branch factor.

        Raises:
            ConfigurationError: if growing would change the factor.
        """
        assert isinstance(shallow, ResidualMLP)
        if shallow.num_blocks and shallow.branch_factor != self.branch_factor:
            raise ConfigurationError(
                f"residual_scaling={self.architecture.residual_scaling!r} would change with the depth; "
                "set scaled_for_depth to the depth that the network grows to"
            )

    def identity_blocks(self) -> HiddenLayer | None:
        """Return the blocks such that the last layer of each returns zeros for any input, and can learn.

        That layer gets a norm of scale and offset 0 (without normalisation: weight and bias 0). Its activation maps 0
        to 0 with a slope that is not 0, so its gradient is not 0. With `zero_init` the weights are 0 already.
        """
        if self.blocks is None or self.architecture.zero_init:
            return self.blocks
        return _zero_last(self.blocks, lambda blocks: blocks.dense if blocks.norm is None else blocks.norm)


def _zero_last(blocks: HiddenLayer, where: Callable[[HiddenLayer], Any]) -> HiddenLayer:
    """Return stacked blocks, `(blocks, layers, ...)`, with zeros in a part of the last layer of each."""
    return eqx.tree_at(where, blocks, jax.tree.map(lambda p: p.at[:, -1].set(0), where(blocks)))


register_torso(
    TorsoSpec("residual_mlp", "residual MLP of Wang et al. 2025: dense, LayerNorm, Swish", ResidualArchitecture)
)
