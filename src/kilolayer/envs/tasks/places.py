"""Places of a plane that starts and goals are drawn from."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def ring(key: PRNGKeyArray, nearest: float, farthest: float) -> Float[Array, "2"]:
    """Draw a point, uniform in direction and in distance from the origin.

    Args:
        key: randomness.
        nearest: least distance, in metres.
        farthest: greatest distance, in metres.
    """
    distance_key, angle_key = jax.random.split(key)
    return _at(jax.random.uniform(distance_key, minval=nearest, maxval=farthest), angle_key)


def disc(key: PRNGKeyArray, radius: float) -> Float[Array, "2"]:
    """Draw a point, uniform in the area of a disc around the origin.

    Args:
        key: randomness.
        radius: of the disc, in metres.
    """
    distance_key, angle_key = jax.random.split(key)
    return _at(radius * jnp.sqrt(jax.random.uniform(distance_key)), angle_key)


def square(key: PRNGKeyArray, centre: tuple[float, float], half_width: float) -> Float[Array, "2"]:
    """Draw a point, uniform in a square.

    Args:
        key: randomness.
        centre: x and y, in metres.
        half_width: half its edge, in metres.
    """
    return jnp.array(centre) + jax.random.uniform(key, (2,), minval=-half_width, maxval=half_width)


def direction(angle: Float[Array, "*batch"]) -> Float[Array, "*batch 2"]:
    """Return the vector of length 1 at an angle from the x axis.

    Args:
        angle: radians.
    """
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def _at(distance: Float[Array, ""], angle_key: PRNGKeyArray) -> Float[Array, "2"]:
    return distance * direction(jax.random.uniform(angle_key, maxval=2 * jnp.pi))
