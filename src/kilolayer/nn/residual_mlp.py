"""The deep residual MLP of the paper: one template for actor, state-action encoder and goal encoder."""

import dataclasses
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.errors import ConfigurationError
from kilolayer.nn.layers import Activation, Dense, HiddenLayer, Normalization, Precision
from kilolayer.nn.remat import choose_checkpoint, device_memory
from kilolayer.nn.torso import Architecture, Observe, Torso, TorsoSpec, Tree, register_torso

ResidualScaling = Literal["auto", "none", "inverse_sqrt"]

GROWABLE_ACTIVATIONS = ("swish", "gelu")
"""Activations that map 0 to 0 with a slope that is not 0."""

SCALED_FROM_DEPTH = 128
"""Depth from which `auto` scales branches: the paper's networks, up to 64 for most of its figures, stay the paper's."""


@dataclasses.dataclass(frozen=True)
class ResidualArchitecture(Architecture):
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

    def build(self, in_size: int, out_size: int, *, depth: int, width: int, key: PRNGKeyArray) -> "ResidualMLP":
        """Return a new network; see `ResidualMLP`."""
        return ResidualMLP(in_size, out_size, depth=depth, width=width, architecture=self, key=key)

    def resolve(self, *, batch_size: int, depth: int, width: int) -> "ResidualArchitecture":
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
        """Return this architecture with the factor on every branch that a network of this depth has."""
        if self.residual_scaling == "none" or self.scaled_for_depth is not None:
            return self
        return dataclasses.replace(self, scaled_for_depth=depth)

    def blocks_per_checkpoint(self) -> int | None:
        """Return how many blocks share one saved input; None if every block saves more than that."""
        if self.checkpoint == "block":
            return 1
        return int(self.checkpoint) if self.checkpoint.isdecimal() else None


class ResidualMLP(Torso):
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
        """Draw the parameters of a network from `in_size` to `out_size` numbers.

        Raises:
            ConfigurationError: if a size is below one or the depth no multiple of the block size.
        """
        architecture = architecture or ResidualArchitecture()
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
                precision=architecture.precision,
                key=key,
            )

        input_key, block_key, head_key = jax.random.split(key, 3)
        self.input_layer = hidden_layer(in_size, input_key)
        self.blocks = None
        if num_blocks:
            block_keys = jax.random.split(block_key, (num_blocks, architecture.block_size))
            self.blocks = jax.vmap(jax.vmap(lambda k: hidden_layer(width, k)))(block_keys)
        self.head = Dense(width, out_size, precision=architecture.precision, key=head_key)
        self.architecture = architecture

    @property
    def num_blocks(self) -> int:
        """The number of residual blocks."""
        return 0 if self.blocks is None else self.blocks.dense.bias.shape[0]

    @property
    def depth(self) -> int:
        """The number of dense layers inside residual blocks."""
        return self.num_blocks * self.architecture.block_size

    @property
    def branch_factor(self) -> float:
        """The factor on what every block adds."""
        return self.architecture.branch_factor(self.num_blocks)

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
        walk = jax.checkpoint(lambda x, blocks: self._walk(x, blocks), prevent_cse=False)
        if whole:
            groups = jax.tree.map(lambda p: p[:whole].reshape(-1, group, *p.shape[1:]), self.blocks)
            x, _ = jax.lax.scan(lambda x, blocks: (walk(x, blocks), None), x, groups)
        if whole < self.num_blocks:
            x = walk(x, jax.tree.map(lambda p: p[whole:], self.blocks))
        return x

    def _walk(self, x: Float[Array, "*batch width"], blocks: HiddenLayer) -> Float[Array, "*batch width"]:
        """Apply stacked `blocks` one after the other."""

        def apply(x: Array, block: HiddenLayer) -> Array:
            return self._block(x, block)

        if self.architecture.checkpoint != "none":
            # What lies between two matrix products is cheaper to compute again than to write to memory and read back.
            policy = jax.checkpoint_policies.dots_saveable
            apply = jax.checkpoint(apply, policy=policy, prevent_cse=False)
        x, _ = jax.lax.scan(lambda x, block: (apply(x, block), None), x, blocks, unroll=self.architecture.unroll)
        return x

    def _block(self, x: Float[Array, "*batch width"], block: HiddenLayer) -> Float[Array, "*batch width"]:
        """Apply one residual block, whose layers are stacked on the leading axis."""
        h = self.branch_factor * self._branch(x, block)[-1]
        return x + h if self.architecture.residual else h

    def observe_blocks(self, x: Float[Array, "batch in"], observe: Observe[Tree]) -> Tree:
        """Walk the blocks on a batch, and return what `observe` returns of each, stacked on a leading axis."""

        def step(x: Array, block: HiddenLayer) -> tuple[Array, Tree]:
            activations = jnp.stack(self._branch(x, block))
            added = self.branch_factor * activations[-1]
            return x + added if self.architecture.residual else added, observe(x, added, activations)

        return jax.lax.scan(step, self.input_layer(x), self.blocks)[1]

    def block_parameters(self) -> HiddenLayer | None:
        """Return the parameters of all blocks, stacked."""
        return self.blocks

    def graft(self, shallow: Torso) -> "ResidualMLP":
        """Return this network with everything that `shallow` holds, and what is left of its blocks silent.

        A block adds the output of its branch to its input, so a branch that is zero makes it the identity. The last
        layer of a new branch starts with a norm of scale and offset 0 (or, without normalisation, weight and bias 0),
        and its activation maps 0 to 0 with a slope that is not 0: the branch is silent at first, and its gradient is
        not. Adam's moments of a network have its form and grow in the same way: new moments are zero.

        Args:
            shallow: a network of the same sizes and at most as many blocks.

        Raises:
            ConfigurationError: if the architecture cannot grow, or not to this depth.
        """
        self.architecture.check_growable()
        if not isinstance(shallow, ResidualMLP):
            raise ConfigurationError(f"{type(shallow).__name__} cannot grow into a ResidualMLP")
        kept = shallow.num_blocks
        if self.num_blocks < kept:
            raise ConfigurationError(
                f"depth={self.depth} is less than the network's own {shallow.depth}; it can only grow"
            )
        if kept and shallow.branch_factor != self.branch_factor:
            raise ConfigurationError(
                f"residual_scaling={self.architecture.residual_scaling!r} would change with the depth; "
                "set scaled_for_depth to the depth that the network grows to"
            )
        blocks = None if self.blocks is None else _silent(self.blocks)
        if shallow.blocks is not None:
            blocks = jax.tree.map(lambda old, new: jnp.concatenate([old, new[kept:]]), shallow.blocks, blocks)
        return eqx.tree_at(
            lambda mlp: (mlp.input_layer, mlp.blocks, mlp.head),
            self,
            (shallow.input_layer, blocks, shallow.head),
            is_leaf=lambda node: node is None,
        )

    def _branch(self, x: Array, block: HiddenLayer) -> list[Array]:
        activations = [x]
        for index in range(self.architecture.block_size):
            layer = jax.tree.map(lambda p, i=index: p[i], block)
            activations.append(layer(activations[-1]))
        return activations[1:]


def _silent(blocks: HiddenLayer) -> HiddenLayer:
    """Return stacked blocks, `(blocks, layers, ...)`, whose last layer gives zeros whatever its input."""

    def what_it_takes(blocks: HiddenLayer) -> eqx.Module:
        return blocks.dense if blocks.norm is None else blocks.norm

    silent = jax.tree.map(lambda p: p.at[:, -1].set(0.0), what_it_takes(blocks))
    return eqx.tree_at(what_it_takes, blocks, silent)


register_torso(TorsoSpec("residual_mlp", "the paper's residual MLP: dense, LayerNorm, Swish", ResidualArchitecture))
