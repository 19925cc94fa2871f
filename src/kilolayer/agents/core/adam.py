"""Adam with a bias correction for each parameter's own age: the new blocks of a network that grows are younger.

Adam divides its moments by what zeros at the start leave of them (Kingma and Ba, 2015, section 3), and optax counts the
steps of the optimiser for it. The moments of a new block start at zero when that count is large, so that its first
steps would be 3 times too long, and 6 times with Nesterov's momentum.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

B1, B2, EPSILON = 0.9, 0.999, 1e-8
"""Rates of decay of both moments, and what is added to the root of the second; as everywhere in the field."""


class AdamState(NamedTuple):
    """Moments, and the steps that each parameter has taken. All are trees of the form of the parameters."""

    age: Any
    """An age for each place on the first axis of a parameter, which is that of blocks where they are stacked. It grows
    as the moments do, and new blocks begin at zero."""
    mu: Any
    nu: Any


def scale_by_adam(*, nesterov: bool = False) -> optax.GradientTransformation:
    """Return `optax.scale_by_adam` with ages; the same as that where all parameters have the age of the optimiser."""

    def init(parameters: Any) -> AdamState:
        zeros = jax.tree.map(jnp.zeros_like, parameters)
        return AdamState(jax.tree.map(_ages, parameters), zeros, zeros)

    def update(gradient: Any, state: AdamState, parameters: Any = None) -> tuple[Any, AdamState]:
        del parameters
        age = jax.tree.map(lambda age: age + 1, state.age)
        mu = jax.tree.map(lambda g, m: (1.0 - B1) * g + B1 * m, gradient, state.mu)
        nu = jax.tree.map(lambda g, v: (1.0 - B2) * g**2 + B2 * v, gradient, state.nu)

        def step(g: Array, age: Array, m: Array, v: Array) -> Array:
            mean = m / (1.0 - B1**age)
            if nesterov:  # Dozat, 2016
                mean = B1 * m / (1.0 - B1 ** (age + 1)) + (1.0 - B1) * g / (1.0 - B1**age)
            return mean / (jnp.sqrt(v / (1.0 - B2**age)) + EPSILON)

        return jax.tree.map(step, gradient, age, mu, nu), AdamState(age, mu, nu)

    return optax.GradientTransformation(init, update)


def _ages(parameter: Array) -> Array:
    return jnp.zeros((*parameter.shape[:1], *(1,) * (parameter.ndim - 1)), jnp.int32)
