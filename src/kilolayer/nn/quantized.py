"""Dense layers with 8 bit weights, to act fast.

One observation meets every weight once, so the time of an action at batch 1 is the time of reading the weights. 8 bit
weights are a quarter of the bytes, and processors multiply them fast.
"""

from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8

from kilolayer.nn.dense import Dense, is_dense

Tree = TypeVar("Tree")

LARGEST = 127.0
"""The integers are between minus this and this."""


class QuantizedDense(eqx.Module):
    """An affine map, `x @ (scale * weight) + bias`, whose weights are 8 bit integers. It takes the place of a `Dense`.

    Each output has its own scale, which maps its largest weight to 127. Each row of the input is scaled in the same way
    and written as the sum of two integers, a coarse one and a finer one for the rest, so that nearly all of the error
    comes from rounding the weights. The second integer costs no time: XLA takes a faster kernel for a product of two
    rows or more than for one row.
    """

    weight: Int8[Array, "*stack in out"]
    scale: Float[Array, "*stack out"]
    bias: Float[Array, "*stack out"] | None

    @classmethod
    def of(cls, dense: Dense) -> "QuantizedDense":
        """Return `dense`, stacked or not, with rounded weights."""
        unit = _unit(dense.weight, axis=-2)
        return cls(jnp.round(dense.weight / unit).astype(jnp.int8), jnp.squeeze(unit, -2), dense.bias)

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Map the last axis of `x`."""
        unit = _unit(x, axis=-1)
        coarse = jnp.round(x / unit)
        # The rest is half a unit at most, which is 127 of the finer ones.
        fine = jnp.round((x / unit - coarse) * (2.0 * LARGEST))
        rows = jnp.stack([coarse, fine]).astype(jnp.int8).reshape(-1, x.shape[-1])
        products = jnp.matmul(rows, self.weight, preferred_element_type=jnp.int32)
        products = products.reshape(2, *x.shape[:-1], -1).astype(x.dtype)
        product = (products[0] + products[1] / (2.0 * LARGEST)) * (unit * self.scale)
        return product if self.bias is None else product + self.bias


def quantize(tree: Tree) -> Tree:
    """Return a tree with a `QuantizedDense` in place of every `Dense`."""
    return jax.tree.map(lambda node: QuantizedDense.of(node) if is_dense(node) else node, tree, is_leaf=is_dense)


def _unit(x: Float[Array, "*shape"], axis: int) -> Float[Array, "..."]:
    """Return the divisor that maps the largest magnitude along `axis` to 127."""
    largest = jnp.max(jnp.abs(x), axis=axis, keepdims=True)
    return jnp.maximum(largest, 1e-30) / LARGEST  # do not divide by zero
