"""Diagnostics of a deep network while it learns: for each block, what it adds, its gradient, and its dead units."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kilolayer.nn.torso import Torso

DEAD_BELOW = 0.025
"""A unit is dead if its mean magnitude is at most this share of its layer's mean (dormant: Sokar et al., 2023)."""

ByBlock = Float[Array, " blocks"]


def block_statistics(torso: Torso, x: Float[Array, "batch in"]) -> dict[str, ByBlock]:
    """Return statistics of every block of a network on a batch.

    Args:
        torso: the network.
        x: its inputs.

    Returns:
        `stream_norm` (mean length of the block's input), `residual_norm` (mean length of what the block adds to it) and
        `dead_units` (share of the block's units that are dead on the batch), each with one number for each block.
    """

    def describe(stream: Array, added: Array, units: Array) -> dict[str, Array]:
        size = jnp.mean(jnp.abs(units), axis=1)
        dead = size <= DEAD_BELOW * jnp.mean(size, axis=-1, keepdims=True)
        return {
            "stream_norm": _mean_length(stream),
            "residual_norm": _mean_length(added),
            "dead_units": jnp.mean(dead.astype(x.dtype)),
        }

    if not torso.num_blocks:
        return dict.fromkeys(("stream_norm", "residual_norm", "dead_units"), jnp.zeros(0))
    return torso.observe_blocks(x, describe)


def gradient_norms(gradient: Torso) -> ByBlock:
    """Return, for each block, the length of the gradient with respect to all parameters of the block."""
    if not gradient.num_blocks:
        return jnp.zeros(0)
    leaves = jax.tree.leaves(gradient.block_parameters())
    squares = [jnp.sum(jnp.square(leaf), axis=range(1, leaf.ndim)) for leaf in leaves]
    return jnp.sqrt(jnp.sum(jnp.stack(squares), axis=0))


def effective_rank(embeddings: Float[Array, "batch size"]) -> Float[Array, ""]:
    """Return the number of directions in which embeddings spread.

    It is the exponential of the entropy of the singular values of the centred embeddings (Roy and Vetterli, 2007): 1 if
    all lie on a line, and at most the number of dimensions.
    """
    values = jnp.linalg.svd(embeddings - jnp.mean(embeddings, axis=0), compute_uv=False)
    share = values / jnp.maximum(jnp.sum(values), jnp.finfo(values.dtype).tiny)
    return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(share, share)))


def spread(embeddings: Float[Array, "batch size"]) -> Float[Array, ""]:
    """Return the root mean square distance of embeddings from their mean."""
    return jnp.sqrt(jnp.mean(jnp.sum(jnp.square(embeddings - jnp.mean(embeddings, axis=0)), axis=-1)))


def _mean_length(x: Float[Array, "batch size"]) -> Float[Array, ""]:
    return jnp.mean(jnp.linalg.norm(x, axis=-1))
