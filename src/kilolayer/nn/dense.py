"""The dense layer and its matrix product."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Precision = Literal["float32", "tf32", "bfloat16"]


def lax_precision(precision: Precision) -> jax.lax.Precision | None:
    """Return what JAX's products take for `precision`, on float32 arrays."""
    return jax.lax.Precision.HIGHEST if precision == "float32" else None


def matrix_product(
    x: Float[Array, "*batch in"], weight: Float[Array, "in out"], precision: Precision
) -> Float[Array, "*batch out"]:
    """Return `x @ weight` in float32, computed as `precision` says in the forward and the backward pass.

    Args:
        x: rows.
        weight: matrix.
        precision: `tf32` leaves the choice to the device: TF32 units on a GPU that has them, float32 on a CPU.
            `bfloat16` rounds both sides and sums in float32.
    """
    if precision == "bfloat16":
        return _bfloat16_product(x, weight)
    return jnp.matmul(x, weight, precision=lax_precision(precision))


@jax.custom_vjp
def _bfloat16_product(x: Array, weight: Array) -> Array:
    return jnp.matmul(x.astype(jnp.bfloat16), weight.astype(jnp.bfloat16), preferred_element_type=jnp.float32)


def _bfloat16_forward(x: Array, weight: Array) -> tuple[Array, tuple[Array, Array]]:
    return _bfloat16_product(x, weight), (x, weight)


def _bfloat16_backward(saved: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    # JAX's own derivative multiplies a float32 by a bfloat16 matrix, which no fast unit does.
    x, weight = saved
    rows = x.reshape(-1, x.shape[-1]).T
    return _bfloat16_product(cotangent, weight.T), _bfloat16_product(rows, cotangent.reshape(rows.shape[1], -1))


_bfloat16_product.defvjp(_bfloat16_forward, _bfloat16_backward)


class Dense(eqx.Module):
    """An affine map, `x @ weight + bias`.

    Weights start uniform in ±1/sqrt(in_size), a third of LeCun's variance, as in the code of "1000 Layer Networks for
    Self-Supervised RL" (Wang et al., 2025). Biases start at zero.
    """

    weight: Float[Array, "*stack in out"]
    bias: Float[Array, "*stack out"] | None
    precision: Precision = eqx.field(static=True)

    def __init__(
        self, in_size: int, out_size: int, *, use_bias: bool = True, precision: Precision = "tf32", key: PRNGKeyArray
    ):
        """Draw the weights.

        Args:
            in_size: numbers that it takes.
            out_size: numbers that it returns.
            use_bias: add a bias; without one, `bias` is None.
            precision: of the product; see `matrix_product`.
            key: randomness of the weights.
        """
        limit = 1.0 / max(in_size, 1) ** 0.5
        self.weight = jax.random.uniform(key, (in_size, out_size), minval=-limit, maxval=limit)
        self.bias = jnp.zeros(out_size) if use_bias else None
        self.precision = precision

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Map the last axis of `x`."""
        product = matrix_product(x, self.weight, self.precision)
        return product if self.bias is None else product + self.bias


def is_dense(node: object) -> bool:
    """Return whether a node of a pytree is a dense layer."""
    return isinstance(node, Dense)
