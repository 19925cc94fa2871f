"""Energies: similarities of two embeddings; larger is nearer (JaxGCRL, Bortkiewicz et al., 2025, section 4)."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kilolayer.errors import ConfigurationError

EnergyName = Literal["l2", "squared_l2", "dot", "cosine"]

Embeddings = Float[Array, "rows size"]


def _products(a: Embeddings, b: Float[Array, "columns size"]) -> Float[Array, "rows columns"]:
    """Return all inner products, in full float32 precision on every platform."""
    return jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)


def _safe_sqrt(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return sqrt(x) for x >= 0, with gradient zero (not infinite) at zero."""
    positive = x > 0.0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def _unit(x: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
    """Divide each row by its own length; a zero row stays zero."""
    length = _safe_sqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True))
    return x / jnp.where(length > 0.0, length, 1.0)


def _squared_distance_matrix(a: Embeddings, b: Float[Array, "columns size"]) -> Float[Array, "rows columns"]:
    # Distances do not change when both sides move together; about b's mean the three terms are small, and less is
    # lost where they cancel.
    centre = jax.lax.stop_gradient(jnp.mean(b, axis=0))
    a, b = a - centre, b - centre
    squares = jnp.sum(jnp.square(a), axis=-1)[:, None] + jnp.sum(jnp.square(b), axis=-1)[None, :]
    return jnp.maximum(squares - 2.0 * _products(a, b), 0.0)


def _squared_distance_pairs(a: Float[Array, "*b size"], b: Float[Array, "*b size"]) -> Float[Array, "*b"]:
    return jnp.sum(jnp.square(a - b), axis=-1)


_MATRICES: dict[str, Callable[[Array, Array], Array]] = {
    "l2": lambda a, b: -_safe_sqrt(_squared_distance_matrix(a, b)),
    "squared_l2": lambda a, b: -_squared_distance_matrix(a, b),
    "dot": _products,
    "cosine": lambda a, b: _products(_unit(a), _unit(b)),
}
_PAIRS: dict[str, Callable[[Array, Array], Array]] = {
    "l2": lambda a, b: -_safe_sqrt(_squared_distance_pairs(a, b)),
    "squared_l2": lambda a, b: -_squared_distance_pairs(a, b),
    "dot": lambda a, b: jnp.sum(a * b, axis=-1),
    "cosine": lambda a, b: jnp.sum(_unit(a) * _unit(b), axis=-1),
}
_TEMPERATURES = {"l2": 1.0, "squared_l2": 1.0, "dot": 1.0, "cosine": 0.1}


@dataclasses.dataclass(frozen=True)
class Energy:
    """An energy by name, divided by a temperature.

    Names: `l2` (minus the distance; the paper's), `squared_l2` (minus its square), `dot`, `cosine`.
    `temperature` None takes 1, and 0.1 for `cosine`, whose values alone lie within ±1.

    Raises:
        ConfigurationError: for an unknown name or a temperature that is not positive.
    """

    name: EnergyName = "l2"
    temperature: float | None = None

    def __post_init__(self) -> None:
        """Validate the name and the temperature."""
        if self.name not in _MATRICES:
            raise ConfigurationError(f"energy={self.name!r} is unknown; choose one of {', '.join(_MATRICES)}")
        if self.temperature is not None and not self.temperature > 0.0:
            raise ConfigurationError(f"temperature={self.temperature} must be above 0")

    @property
    def divisor(self) -> float:
        """The temperature in force."""
        return _TEMPERATURES[self.name] if self.temperature is None else self.temperature

    def logits(self, a: Embeddings, b: Float[Array, "columns size"]) -> Float[Array, "rows columns"]:
        """Return the energy of every row of `a` with every row of `b`: entry i, j is that of a_i and b_j."""
        return _MATRICES[self.name](a, b) / self.divisor

    def pairs(self, a: Float[Array, "*batch size"], b: Float[Array, "*batch size"]) -> Float[Array, "*batch"]:
        """Return the energy of each row of `a` with the same row of `b`."""
        return _PAIRS[self.name](a, b) / self.divisor
