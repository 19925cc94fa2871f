"""Quasimetrics on embeddings: distances that need not be the same there and back."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kilolayer.errors import ConfigurationError


def check_components(size: int, component_size: int) -> None:
    """Check that an embedding can be cut into components.

    Raises:
        ConfigurationError: naming both sizes and what would be valid.
    """
    if component_size < 1:
        raise ConfigurationError(f"component_size={component_size} must be at least 1")
    if size < 1 or size % component_size:
        raise ConfigurationError(
            f"representation_size={size} must be a positive multiple of component_size={component_size}"
        )


def interval_quasimetric(
    start: Float[Array, "*batch size"], end: Float[Array, "*batch size"], component_size: int
) -> Float[Array, "*batch"]:
    """Return the interval quasimetric embedding of each row of `start` to the same row of `end` (Wang and Isola, 2022).

    An embedding is cut into components of `component_size` numbers. Number j of a component spans the interval from
    start_j to end_j where end_j is larger, and nothing otherwise; the component's distance is the length that its
    intervals cover together. The distance is half the mean of all components plus half their maximum: the
    published reduction learns these two weights, and the embeddings' scale stands in for that here.

    The distance is 0 exactly where no end_j is above its start_j.

    Raises:
        ConfigurationError: if the size is not a multiple of `component_size`.
    """
    check_components(start.shape[-1], component_size)
    shape = (*start.shape[:-1], -1, component_size)
    left, right = start.reshape(shape), jnp.maximum(start, end).reshape(shape)
    # What intervals cover together is, for each stretch without a gap, its end minus its beginning. Comparing all pairs
    # of a component finds these ends in less time than sorting so few numbers; the comparison has no gradient. An empty
    # interval overlaps none.
    (low, other_low), (high, other_high) = (
        (ends[..., :, None], ends[..., None, :]) for ends in jax.lax.stop_gradient((left, right))
    )
    number = jnp.arange(component_size)
    other_first = number[None, :] < number[:, None]  # of intervals with the same end, one alone counts
    begins_sooner = (other_low < low) | ((other_low == low) & other_first)
    ends_later = (other_high > high) | ((other_high == high) & other_first.T)
    first = ~jnp.any(begins_sooner & (other_high > low), axis=-1)
    last = ~jnp.any(ends_later & (other_low < high), axis=-1)
    covered = jnp.sum(jnp.where(right > left, jnp.where(last, right, 0.0) - jnp.where(first, left, 0.0), 0.0), axis=-1)
    return 0.5 * (jnp.mean(covered, axis=-1) + jnp.max(covered, axis=-1))
