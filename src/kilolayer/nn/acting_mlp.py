"""The form of a residual MLP that acts: the same function, its weights in float32 or as 16 or 8 bit integers.

One observation meets every weight once, so at batch 1 an action costs what it costs to read the weights. Integers are
fewer bytes, and processors multiply them fast.
"""

from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8

from kilolayer.errors import ConfigurationError
from kilolayer.nn.architecture import Architecture
from kilolayer.nn.layers import ACTIVATIONS, Dense, HiddenLayer, LayerNorm, RMSNorm
from kilolayer.nn.residual_mlp import ResidualMLP

ActingPrecision = Literal["float32", "int16", "int8"]
"""Numbers that hold the weights of an acting network."""

DIGITS: dict[str, int] = {"int16": 2, "int8": 1}
"""Signed bytes in a weight of each integer precision."""

BASE = 254.0
"""Digits are whole numbers from -127 to 127; what rounding leaves, half a unit at most, is 127 units of the next."""


def digits(x: Float[Array, "*shape"], count: int) -> Int8[Array, "{count} *shape"]:
    """Write numbers in [-127, 127] as `count` signed digits: x is the sum of digit[k] / BASE**k.

    The sum is off by half a unit of the last digit at most.
    """
    found = []
    for _ in range(count):
        digit = jnp.round(x)
        found.append(digit.astype(jnp.int8))
        x = (x - digit) * BASE
    return jnp.stack(found)


class QuantizedDense(eqx.Module):
    """An affine map, `x @ weight + bias`, with integer weights: weight = scale * (digit 0 + digit 1 / 254).

    Each output has a scale of its own, so that its largest weight is 127. Inputs are scaled row by row and written with
    two digits, whatever the weights have: products and sums of whole numbers are exact, two rows cost little more than
    one, and XLA hands a product of two rows or more to a kernel that is faster than the one it takes for a single row.
    """

    weight: Int8[Array, "*stack in digits_out"]
    """The digits of the weights side by side: all outputs' first digits, then all outputs' second ones."""
    scale: Float[Array, "*stack out"]
    bias: Float[Array, "*stack out"]

    @classmethod
    def of(cls, dense: Dense, count: int) -> "QuantizedDense":
        """Round the weights of `dense`, stacked or not, to `count` digits."""
        largest = jnp.max(jnp.abs(dense.weight), axis=-2, keepdims=True)
        scale = jnp.where(largest > 0.0, largest, 1.0) / 127.0
        weight = jnp.concatenate(list(digits(dense.weight / scale, count)), axis=-1)
        return cls(weight, jnp.squeeze(scale, -2), dense.bias)

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Map the last axis of `x`."""
        largest = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
        unit = jnp.where(largest > 0.0, largest, 1.0) / 127.0
        rows = digits(x / unit, 2)
        products = jnp.matmul(rows.reshape(-1, x.shape[-1]), self.weight, preferred_element_type=jnp.int32)
        # The outer axes are now the digits of the inputs, the batch, the digits of the weights, the outputs.
        products = products.reshape(2, *x.shape[:-1], -1, self.bias.shape[-1]).astype(x.dtype)
        products = products[0] + products[1] / BASE
        y = sum(products[..., place, :] / BASE**place for place in range(products.shape[-2]))
        return y * (unit * self.scale) + self.bias


class ActingMLP(eqx.Module):
    """A residual MLP with weights in another precision: made from a trained one, to act, never to learn.

    Inside the blocks the weights are what `ActingPrecision` says; the input layer and the head, a thousandth of a deep
    network, and all normalisations stay float32. `Architecture.checkpoint` is about learning and changes nothing here.
    """

    input_layer: HiddenLayer
    layers: tuple[Dense | QuantizedDense, LayerNorm | RMSNorm | None] | None
    """Dense layers and normalisations of all blocks, stacked on two leading axes: blocks, layers of a block."""
    head: Dense
    architecture: Architecture = eqx.field(static=True)

    @classmethod
    def of(cls, network: ResidualMLP, precision: ActingPrecision = "float32") -> "ActingMLP":
        """Take over the parameters of `network`, rounding its weights to `precision`.

        Raises:
            ConfigurationError: for an unknown precision.
        """
        check_acting_precision(precision)
        layers = None
        if network.blocks is not None:
            dense: Dense | QuantizedDense = network.blocks.dense
            if precision in DIGITS:
                dense = QuantizedDense.of(network.blocks.dense, DIGITS[precision])
            layers = dense, network.blocks.norm
        return cls(network.input_layer, layers, network.head, network.architecture)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all parameters: what an action has to read."""
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self))

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Map the last axis of `x`; any number of leading batch axes."""
        x = self.input_layer(x)
        if self.layers is not None:
            x, _ = jax.lax.scan(lambda x, block: (self._block(x, block), None), x, self.layers)
        return self.head(x)

    def _block(
        self, x: Float[Array, "*batch width"], block: tuple[Dense | QuantizedDense, LayerNorm | RMSNorm | None]
    ) -> Float[Array, "*batch width"]:
        """Apply one residual block, whose layers are stacked on the leading axis."""
        architecture, h = self.architecture, x
        for index in range(architecture.block_size):
            dense, norm = jax.tree.map(lambda p, i=index: p[i], block)
            h = dense(h)
            if norm is not None:
                h = norm(h)
            h = ACTIVATIONS[architecture.activation](h)
        assert self.layers is not None
        h = architecture.branch_factor(self.layers[0].bias.shape[0]) * h
        return x + h if architecture.residual else h


def check_acting_precision(precision: str) -> None:
    """Refuse an unknown precision.

    Raises:
        ConfigurationError: naming the precisions there are.
    """
    if precision not in get_args(ActingPrecision):
        raise ConfigurationError(
            f"precision={precision!r} is unknown; choose one of {', '.join(get_args(ActingPrecision))}"
        )
