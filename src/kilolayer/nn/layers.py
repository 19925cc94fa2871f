"""The layers that the residual stack is made of: dense, normalisation, activation."""

from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.errors import ConfigurationError

Activation = Literal["swish", "relu", "gelu"]
Normalization = Literal["layer", "rms", "none"]
Precision = Literal["float32", "tf32", "bfloat16"]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "swish": jax.nn.swish,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
}

NORMALIZATION_EPSILON = 1e-6


def matrix_product(
    x: Float[Array, "*batch in"], weight: Float[Array, "in out"], precision: Precision
) -> Float[Array, "*batch out"]:
    """Return `x @ weight` in float32, computed as `precision` says, forwards and backwards.

    `tf32` leaves the choice to the device: TF32 units on a GPU that has them, float32 on a CPU.
    """
    if precision == "bfloat16":
        return _bfloat16_product(x, weight)
    return jnp.matmul(x, weight, precision=jax.lax.Precision.HIGHEST if precision == "float32" else None)


@jax.custom_vjp
def _bfloat16_product(x: Array, weight: Array) -> Array:
    return jnp.matmul(x.astype(jnp.bfloat16), weight.astype(jnp.bfloat16), preferred_element_type=jnp.float32)


def _bfloat16_forward(x: Array, weight: Array) -> tuple[Array, tuple[Array, Array]]:
    return _bfloat16_product(x, weight), (x, weight)


def _bfloat16_backward(saved: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    # Left to itself, the derivative would multiply a float32 by a bfloat16 matrix, which no fast unit does.
    x, weight = saved
    rows = x.reshape(-1, x.shape[-1]).T
    return _bfloat16_product(cotangent, weight.T), _bfloat16_product(rows, cotangent.reshape(rows.shape[1], -1))


_bfloat16_product.defvjp(_bfloat16_forward, _bfloat16_backward)


class Dense(eqx.Module):
    """An affine map, `x @ weight + bias`.

    Weights start uniform in ±1/sqrt(in_size) (variance 1/3 of LeCun's; the paper's code, method 1.1), biases at zero.
    """

    weight: Float[Array, "*stack in out"]
    bias: Float[Array, "*stack out"]
    precision: Precision = eqx.field(static=True)

    def __init__(self, in_size: int, out_size: int, *, precision: Precision = "tf32", key: PRNGKeyArray):
        """Draw the weights of a map from `in_size` to `out_size` numbers."""
        limit = 1.0 / max(in_size, 1) ** 0.5
        self.weight = jax.random.uniform(key, (in_size, out_size), minval=-limit, maxval=limit)
        self.bias = jnp.zeros(out_size)
        self.precision = precision

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Map the last axis of `x`."""
        return matrix_product(x, self.weight, self.precision) + self.bias


class LayerNorm(eqx.Module):
    """Layer normalisation over the last axis, with learned scale and offset (Ba et al., 2016)."""

    scale: Float[Array, "*stack size"]
    offset: Float[Array, "*stack size"]

    def __init__(self, size: int):
        """Start as plain standardisation: scale one, offset zero."""
        self.scale = jnp.ones(size)
        self.offset = jnp.zeros(size)

    def __call__(self, x: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
        """Standardise each row of `x`, then scale and shift it."""
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + NORMALIZATION_EPSILON) * self.scale + self.offset


class RMSNorm(eqx.Module):
    """Root-mean-square normalisation over the last axis, with a learned scale (Zhang and Sennrich, 2019)."""

    scale: Float[Array, "*stack size"]

    def __init__(self, size: int):
        """Start with scale one."""
        self.scale = jnp.ones(size)

    def __call__(self, x: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
        """Divide each row of `x` by its root mean square, then scale it."""
        mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        return x * jax.lax.rsqrt(mean_square + NORMALIZATION_EPSILON) * self.scale


class HiddenLayer(eqx.Module):
    """One layer as the paper counts them: dense, then normalisation, then activation (method 1.1)."""

    dense: Dense
    norm: LayerNorm | RMSNorm | None
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        activation: Activation = "swish",
        normalization: Normalization = "layer",
        precision: Precision = "tf32",
        key: PRNGKeyArray,
    ):
        """Build a layer from `in_size` to `out_size` numbers.

        Raises:
            ConfigurationError: for an unknown activation or normalisation.
        """
        if activation not in ACTIVATIONS:
            raise ConfigurationError(f"activation={activation!r} is unknown; choose one of {', '.join(ACTIVATIONS)}")
        self.dense = Dense(in_size, out_size, precision=precision, key=key)
        match normalization:
            case "layer":
                self.norm = LayerNorm(out_size)
            case "rms":
                self.norm = RMSNorm(out_size)
            case "none":
                self.norm = None
            case _:
                raise ConfigurationError(f"normalization={normalization!r} is unknown; choose one of layer, rms, none")
        self.activation = activation

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Apply dense, normalisation and activation to the last axis."""
        x = self.dense(x)
        if self.norm is not None:
            x = self.norm(x)
        return ACTIVATIONS[self.activation](x)
