"""The hyperspherical torso of SimbaV2 (Lee et al., 2025, arXiv 2502.15280, section 4)."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.errors import ConfigurationError
from kilolayer.nn.dense import Dense, Precision, is_dense
from kilolayer.nn.quantized import QuantizedDense
from kilolayer.nn.remat import BlockNumbers
from kilolayer.nn.stack import BlockOutput, StackedArchitecture, StackedTorso
from kilolayer.nn.torso import TorsoSpec, check_sizes, register_torso

EPSILON = 1e-12
"""Added to squared lengths, so that the zero vector has a finite gradient."""


@dataclasses.dataclass(frozen=True)
class HypersphericalArchitecture(StackedArchitecture):
    """Settings of the hyperspherical torso. `depth` counts the dense layers inside blocks, two in each: depth 4 is two
    blocks.
    """

    shift: float = 3.0
    """Constant that is appended to the input before it is normalised, so that its length is not lost."""
    expansion: int = 4
    """Units inside a block, as a multiple of the width."""
    scaled_for_depth: int | None = None
    """Depth whose number of blocks L sets the first step of a block's interpolation, 1/(L + 1); None takes the
    network's own. A network that grows takes the depth that it grows to."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        super().__post_init__()
        check_sizes(expansion=self.expansion)
        if not 0.0 < self.shift < float("inf"):
            raise ConfigurationError(f"shift={self.shift} must be above 0")
        if self.scaled_for_depth is not None and self.num_blocks(self.scaled_for_depth) < 1:
            raise ConfigurationError(f"scaled_for_depth={self.scaled_for_depth} must be at least 2")

    @property
    def layers_per_block(self) -> int:
        """Dense layers in a block: one up, one down."""
        return 2

    def block_numbers(self, width: int) -> BlockNumbers:
        """Return how many numbers a block of this width has to keep."""
        inner = self.expansion * width
        return BlockNumbers(parameters=2 * inner * width + inner + width, stream=width, products=inner + width)

    def first_step(self, num_blocks: int) -> float:
        """Return alpha of a new network of so many blocks: the share of a block's output in its interpolation."""
        if self.scaled_for_depth is not None:
            num_blocks = self.num_blocks(self.scaled_for_depth)
        return 1.0 / (num_blocks + 1)

    def build(self, in_size: int, out_size: int, *, depth: int, width: int, key: PRNGKeyArray) -> "Hyperspherical":
        """Return a new network; see `Hyperspherical`."""
        return Hyperspherical(in_size, out_size, depth=depth, width=width, architecture=self, key=key)

    def check_growable(self) -> None:
        """Check that networks can grow: they always can."""

    def growing_to(self, depth: int) -> "HypersphericalArchitecture":
        """Return these settings with the first step of a network of this depth."""
        return self if self.scaled_for_depth is not None else dataclasses.replace(self, scaled_for_depth=depth)


class Scaler(eqx.Module):
    """A learned factor for each unit, `factor * weight * x`.

    The weights start at `1 / factor` times the first scale, so `factor` sets how fast Adam changes the scale.
    """

    weight: Float[Array, "*stack size"]
    factor: float = eqx.field(static=True)

    def __init__(self, size: int, *, weight: float, first: float):
        """Start with the scale `first`, held by weights of `weight`, for rows of `size` numbers."""
        self.weight = jnp.full(size, weight)
        self.factor = first / weight

    def __call__(self, x: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
        """Scale each unit of `x`."""
        return self.factor * self.weight * x


class HypersphericalBlock(eqx.Module):
    """The parameters of a block: dense, scaler, ReLU, dense, and the step of the interpolation."""

    up: Dense | QuantizedDense
    scale: Scaler
    down: Dense | QuantizedDense
    step: Scaler

    def __init__(self, width: int, inner: int, *, first_step: float, precision: Precision, key: PRNGKeyArray):
        """Draw the parameters of a block of `width` units outside and `inner` units inside."""
        up_key, down_key = jax.random.split(key)
        scale = (2.0 / inner) ** 0.5
        self.up = unit_dense(width, inner, precision=precision, key=up_key)
        self.scale = Scaler(inner, weight=scale, first=scale)
        self.down = unit_dense(inner, width, precision=precision, key=down_key)
        self.step = Scaler(width, weight=width**-0.5, first=first_step)


class Hyperspherical(StackedTorso):
    """A torso whose features and weight vectors have length one (SimbaV2, section 4).

        x = unit(scale * W unit([input, shift]))
        repeat depth / 2 times:  x = unit(x + alpha * (unit(W relu(scale * W x)) - x))
        output = W (scale * W x) + bias

    `unit` divides a vector by its length. Every weight vector of an output unit (a column of `Dense.weight`) has length
    one: from the start, and after every update by `project`. There is no layer normalisation. alpha and every scale are
    learned vectors, all different parameters.

    Lengths of embeddings start near 1/sqrt(width) for each output, much smaller than those of a residual MLP.
    """

    input_layer: Dense
    input_scale: Scaler
    blocks: HypersphericalBlock | None
    head_layer: Dense
    head_scale: Scaler
    head: Dense
    architecture: HypersphericalArchitecture = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        depth: int = 4,
        width: int = 256,
        architecture: HypersphericalArchitecture | None = None,
        key: PRNGKeyArray,
    ):
        """Draw the parameters.

        Args:
            in_size: numbers that it takes.
            out_size: numbers that it returns.
            depth: dense layers inside the blocks, a multiple of two.
            width: units of the stream between blocks.
            architecture: all other settings; None takes the defaults.
            key: randomness of the parameters.

        Raises:
            ConfigurationError: if a size is below one, or the depth not a multiple of two.
        """
        architecture = architecture or HypersphericalArchitecture()
        check_sizes(in_size=in_size, out_size=out_size, width=width)
        num_blocks, precision = architecture.num_blocks(depth), architecture.precision

        def block(key: PRNGKeyArray) -> HypersphericalBlock:
            return HypersphericalBlock(
                width,
                architecture.expansion * width,
                first_step=architecture.first_step(num_blocks),
                precision=precision,
                key=key,
            )

        input_key, block_key, layer_key, head_key = jax.random.split(key, 4)
        scale = (2.0 / width) ** 0.5
        self.input_layer = unit_dense(in_size + 1, width, precision=precision, key=input_key)
        self.input_scale = Scaler(width, weight=scale, first=scale)
        self.blocks = jax.vmap(block)(jax.random.split(block_key, num_blocks)) if num_blocks else None
        self.head_layer = unit_dense(width, width, precision=precision, key=layer_key)
        self.head_scale = Scaler(width, weight=1.0, first=1.0)
        self.head = unit_dense(width, out_size, use_bias=True, precision=precision, key=head_key)
        self.architecture = architecture

    def embed(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch width"]:
        """Append the shift, normalise, and map to the unit sphere."""
        shift = jnp.full((*x.shape[:-1], 1), self.architecture.shift, x.dtype)
        return unit(self.input_scale(self.input_layer(unit(jnp.concatenate([x, shift], axis=-1)))))

    def block(self, x: Float[Array, "*batch width"], parameters: HypersphericalBlock) -> BlockOutput:
        """Move the stream along the sphere, towards the output of a block's MLP."""
        units = jax.nn.relu(parameters.scale(parameters.up(x)))
        stream = unit(x + parameters.step(unit(parameters.down(units)) - x))
        return BlockOutput(stream, stream - x, [units])

    def read_out(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch out"]:
        """Apply the head."""
        return self.head(self.head_scale(self.head_layer(x)))

    def project(self) -> "Hyperspherical":
        """Return the torso with every weight vector at length one."""
        return jax.tree.map(lambda node: _projected(node) if is_dense(node) else node, self, is_leaf=is_dense)

    def check_graft(self, shallow: StackedTorso) -> None:
        """Check that both torsos have the same first step.

        Raises:
            ConfigurationError: if growing would change it.
        """
        assert isinstance(shallow, Hyperspherical)
        first, ours = (torso.architecture.first_step(torso.num_blocks) for torso in (shallow, self))
        if shallow.num_blocks and first != ours:
            raise ConfigurationError(
                f"scaled_for_depth={self.architecture.scaled_for_depth} lets the step of every block change with the "
                "depth; set it to the depth that the network grows to"
            )

    def identity_blocks(self) -> HypersphericalBlock | None:
        """Return the blocks with a step of zero. Its gradient is not zero."""
        if self.blocks is None:
            return None
        step = self.blocks.step.weight
        return eqx.tree_at(lambda blocks: blocks.step.weight, self.blocks, jnp.zeros_like(step))


def unit(x: Float[Array, "*batch size"], axis: int = -1) -> Float[Array, "*batch size"]:
    """Return the vectors along an axis, divided by their length; zero for the zero vector."""
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=axis, keepdims=True) + EPSILON)


def unit_dense(
    in_size: int, out_size: int, *, use_bias: bool = False, precision: Precision, key: PRNGKeyArray
) -> Dense:
    """Return a dense layer whose weights are orthogonal draws with columns of length one."""
    dense = Dense(in_size, out_size, use_bias=use_bias, precision=precision, key=key)
    weight = _orthogonal(key, (in_size, out_size), dense.weight.dtype)
    return _projected(eqx.tree_at(lambda dense: dense.weight, dense, weight))


def _orthogonal(key: PRNGKeyArray, shape: tuple[int, int], dtype: Any) -> Float[Array, "in out"]:
    """Return an orthogonal draw. Under `jax.vmap` the draws are made one after another: jaxlib 0.10 decomposes a batch
    of matrices in threads, and waits for ever where a program has several batches and the machine few cores.
    """
    draw = jax.custom_batching.sequential_vmap(lambda key: jax.nn.initializers.orthogonal()(key, shape, dtype))
    return draw(key)


def _projected(dense: Dense) -> Dense:
    """Return a dense layer, stacked or not, with weight columns of length one."""
    return eqx.tree_at(lambda dense: dense.weight, dense, unit(dense.weight, axis=-2))


register_torso(
    TorsoSpec(
        "hyperspherical",
        "SimbaV2 (Lee et al. 2025): features and weight vectors of length one, no LayerNorm",
        HypersphericalArchitecture,
    )
)
