"""The form of a residual MLP that acts: the same function, its weights in float32 or as 8 bit integers.

One observation meets every weight once, so at batch 1 an action costs what it costs to read the weights. Bytes are a
quarter of that, and processors multiply them fast.
"""

from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8

from kilolayer.errors import ConfigurationError
from kilolayer.nn.layers import ACTIVATIONS, Dense, HiddenLayer, LayerNorm, RMSNorm
from kilolayer.nn.residual_mlp import ResidualArchitecture, ResidualMLP

ActingPrecision = Literal["float32", "int8"]
"""Numbers that hold the weights of an acting network."""

LARGEST = 127.0
"""Integers reach from minus this to this."""


class QuantizedDense(eqx.Module):
    """An affine map, `x @ (scale * weight) + bias`, with 8 bit integers for weights.

    Each output has a scale of its own, by which its largest weight is 127. Inputs are scaled row by row and written
    with two such integers, one for what the other's rounding leaves, so that rounding the weights is all that counts.
    The second integer costs no time: XLA hands a product of two rows or more to a kernel that is faster than the one it
    takes for a single row.
    """

    weight: Int8[Array, "*stack in out"]
    scale: Float[Array, "*stack out"]
    bias: Float[Array, "*stack out"]

    @classmethod
    def of(cls, dense: Dense) -> "QuantizedDense":
        """Round the weights of `dense`, stacked or not."""
        unit = _unit(dense.weight, axis=-2)
        return cls(jnp.round(dense.weight / unit).astype(jnp.int8), jnp.squeeze(unit, -2), dense.bias)

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Map the last axis of `x`."""
        unit = _unit(x, axis=-1)
        coarse = jnp.round(x / unit)
        # Rounding leaves half a unit at most, which is 127 of these finer ones.
        fine = jnp.round((x / unit - coarse) * (2.0 * LARGEST))
        rows = jnp.stack([coarse, fine]).astype(jnp.int8).reshape(-1, x.shape[-1])
        products = jnp.matmul(rows, self.weight, preferred_element_type=jnp.int32)
        products = products.reshape(2, *x.shape[:-1], -1).astype(x.dtype)
        return (products[0] + products[1] / (2.0 * LARGEST)) * (unit * self.scale) + self.bias


def _unit(x: Float[Array, "*shape"], axis: int) -> Float[Array, "..."]:
    """Return what to divide by for the largest magnitude along `axis` to be 127."""
    largest = jnp.max(jnp.abs(x), axis=axis, keepdims=True)
    return jnp.maximum(largest, 1e-30) / LARGEST  # zeros are not divided by zero


class ActingMLP(eqx.Module):
    """A residual MLP with weights in another precision: made from a trained one, to act, never to learn.

    Inside the blocks the weights are what `ActingPrecision` says; the input layer and the head, a thousandth of a deep
    network, and all normalisations stay float32. `checkpoint` is about learning and changes
    nothing here.
    """

    input_layer: HiddenLayer
    layers: tuple[Dense | QuantizedDense, LayerNorm | RMSNorm | None] | None
    """Dense layers and normalisations of all blocks, stacked on two leading axes: blocks, layers of a block."""
    head: Dense
    architecture: ResidualArchitecture = eqx.field(static=True)

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
            if precision == "int8":
                dense = QuantizedDense.of(network.blocks.dense)
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
