"""The layers of a residual stack: normalisation, activation, and the hidden layer that joins them to a dense layer."""

from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.errors import ConfigurationError
from kilolayer.nn.dense import Dense, Precision
from kilolayer.nn.quantized import QuantizedDense

Activation = Literal["swish", "relu", "gelu"]
Normalization = Literal["layer", "rms", "none"]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "swish": jax.nn.swish,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
}

NORMALIZATION_EPSILON = 1e-6


class LayerNorm(eqx.Module):
    """Layer normalisation over the last axis, with learned scale and offset (Ba et al., 2016)."""

    scale: Float[Array, "*stack size"]
    offset: Float[Array, "*stack size"]

    def __init__(self, size: int):
        """Start with scale one and offset zero, for rows of `size` numbers."""
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
        """Start with scale one, for rows of `size` numbers."""
        self.scale = jnp.ones(size)

    def __call__(self, x: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
        """Divide each row of `x` by its root mean square, then scale it."""
        mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        return x * jax.lax.rsqrt(mean_square + NORMALIZATION_EPSILON) * self.scale


class HiddenLayer(eqx.Module):
    """Dense, then normalisation, then activation: one layer of depth (Wang et al., 2025, section 3)."""

    dense: Dense | QuantizedDense
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
        """Draw the parameters.

        Args:
            in_size: numbers that it takes.
            out_size: numbers that it returns.
            activation: name of the activation.
            normalization: name of the normalisation.
            precision: of the matrix product.
            key: randomness of the weights.

        Raises:
            ConfigurationError: for an unknown activation or normalisation.
        """
        check_activation(activation)
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

    @property
    def normalization(self) -> Normalization:
        """The name of the normalisation."""
        return "none" if self.norm is None else "rms" if isinstance(self.norm, RMSNorm) else "layer"

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Apply dense, normalisation and activation to the last axis."""
        x = self.dense(x)
        if self.norm is not None:
            x = self.norm(x)
        return ACTIVATIONS[self.activation](x)


def check_activation(activation: str) -> None:
    """Check the name of an activation.

    Raises:
        ConfigurationError: if it is unknown; the line names the known ones.
    """
    if activation not in ACTIVATIONS:
        raise ConfigurationError(f"activation={activation!r} is unknown; choose one of {', '.join(ACTIVATIONS)}")
