"""What the residual stacks of an agent have in common."""

import dataclasses
from typing import Literal, get_args

from kilolayer.errors import ConfigurationError
from kilolayer.nn.layers import Activation, Normalization, Precision
from kilolayer.nn.remat import choose_checkpoint, device_memory

ResidualScaling = Literal["auto", "none", "inverse_sqrt"]

SCALED_FROM_DEPTH = 128
"""Depth from which `auto` scales branches: the paper's networks, up to 64 for most of its figures, stay the paper's."""


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
    residual_scaling: ResidualScaling = "auto"
    """Factor on every block's branch: none; inverse_sqrt: 1/sqrt(number of blocks), the depth-muP of MACRL; auto: none
    below depth 128, inverse_sqrt from there on."""
    scaled_for_depth: int | None = None
    """Depth whose number of blocks residual_scaling takes; None takes the network's own. A network that grows takes the
    depth that it grows to, so that the factor stays what it was."""
    checkpoint: str = "auto"
    """Activations kept for the backward pass: none (all), layer (each layer's matrix product; what is cheap is computed
    again), block (each block's input), a number k (every k-th block's input), or auto: an agent takes the first of
    layer, block, 2, 4, ... that fits into memory; a network alone takes layer."""
    unroll: int = 1
    """Blocks in one turn of the scan: more take longer to compile, and may run faster."""
    precision: Precision = "tf32"
    """Of matrix products: float32; tf32 (float32 where the device has no such unit, as on every CPU); or bfloat16 with
    sums in float32. Parameters, normalisations and losses are float32 always."""

    def __post_init__(self) -> None:
        """Refuse values that cannot be.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
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
        if self.unroll < 1:
            raise ConfigurationError(f"unroll={self.unroll} must be at least 1")
        if self.precision not in get_args(Precision):
            raise ConfigurationError(
                f"precision={self.precision!r} is unknown; choose one of {', '.join(get_args(Precision))}"
            )
        if self.checkpoint not in ("auto", "none", "layer", "block") and not (
            self.checkpoint.isdecimal() and int(self.checkpoint) > 0
        ):
            raise ConfigurationError(
                f"checkpoint={self.checkpoint!r} is unknown; "
                "use auto, none, layer, block, or a number of blocks such as 8"
            )

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

    def branch_factor(self, num_blocks: int) -> float:
        """Return the factor on every block's branch in a network of so many blocks."""
        if self.scaled_for_depth is not None:
            num_blocks = self.num_blocks(self.scaled_for_depth)
        deep = self.residual and num_blocks * self.block_size >= SCALED_FROM_DEPTH
        scaled = self.residual_scaling == "inverse_sqrt" or (self.residual_scaling == "auto" and deep)
        return num_blocks**-0.5 if scaled else 1.0

    def resolve(self, *, batch_size: int, depth: int, width: int) -> "Architecture":
        """Return this architecture with a choice in place of every `auto`, for a network of these sizes here.

        Args:
            batch_size: rows in a gradient step.
            depth: of the deepest network.
            width: of the widest network.
        """
        if self.checkpoint != "auto":
            return self
        checkpoint = choose_checkpoint(
            batch_size=batch_size,
            width=width,
            num_blocks=self.num_blocks(depth),
            block_size=self.block_size,
            memory=device_memory(),
        )
        return dataclasses.replace(self, checkpoint=checkpoint)

    def blocks_per_checkpoint(self) -> int | None:
        """Return how many blocks share one saved input; None if every block saves more than that."""
        if self.checkpoint == "block":
            return 1
        return int(self.checkpoint) if self.checkpoint.isdecimal() else None
