"""Contrastive losses on a matrix of logits, and metrics of it.

In `logits[i, j]` row i is a state-action pair and column j a goal; the diagonal holds the positives.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kilolayer.errors import ConfigurationError

LossName = Literal["infonce_forward", "infonce_backward", "infonce_symmetric", "binary_nce"]

Logits = Float[Array, "batch batch"]
Scalar = Float[Array, ""]


def infonce_forward(logits: Logits) -> Scalar:
    """Return the forward InfoNCE loss: classify the own goal of each state-action among all goals.

    The softmax is over each row (van den Oord et al., 2018; Wang et al., 2025, section 3).

    Args:
        logits: positives on the diagonal.
    """
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - jnp.diagonal(logits))


def infonce_backward(logits: Logits) -> Scalar:
    """Return the backward InfoNCE loss: classify the own state-action of each goal, by softmax over each column."""
    return infonce_forward(logits.T)


def infonce_symmetric(logits: Logits) -> Scalar:
    """Return the mean of forward and backward InfoNCE."""
    return 0.5 * (infonce_forward(logits) + infonce_backward(logits))


def binary_nce(logits: Logits) -> Scalar:
    """Return the binary NCE loss: logistic regression of positives against negatives (Ma and Collins, 2018).

    A positive weighs as much as all negatives of its row together:
    -log sigmoid(L_ii) - mean over j != i of log sigmoid(-L_ij).
    """
    batch = logits.shape[0]
    positives = jax.nn.log_sigmoid(jnp.diagonal(logits))
    off_diagonal = 1.0 - jnp.eye(batch, dtype=logits.dtype)
    negatives = jnp.sum(jax.nn.log_sigmoid(-logits) * off_diagonal, axis=1) / max(batch - 1, 1)
    return -jnp.mean(positives + negatives)


LOSSES: dict[str, Callable[[Array], Array]] = {
    "infonce_forward": infonce_forward,
    "infonce_backward": infonce_backward,
    "infonce_symmetric": infonce_symmetric,
    "binary_nce": binary_nce,
}


def loss_function(name: str) -> Callable[[Logits], Scalar]:
    """Return the contrastive loss called `name`.

    Raises:
        ConfigurationError: for an unknown name; the line lists the losses.
    """
    if name not in LOSSES:
        raise ConfigurationError(f"loss={name!r} is unknown; choose one of {', '.join(LOSSES)}")
    return LOSSES[name]


def logsumexp_penalty(logits: Logits) -> Scalar:
    """Return the mean squared logsumexp of the rows, which keeps the logits from drifting (Wang et al., 2025)."""
    return jnp.mean(jnp.square(jax.nn.logsumexp(logits, axis=1)))


def contrastive_metrics(
    logits: Logits, phi: Float[Array, "batch size"], psi: Float[Array, "batch size"]
) -> dict[str, Scalar]:
    """Return metrics of how well the critic separates positives from negatives.

    Args:
        logits: positives on the diagonal.
        phi: embeddings of state-actions.
        psi: embeddings of goals.

    Returns:
        `categorical_accuracy` (share of rows whose largest logit is the positive), `logits_positive` and
        `logits_negative` (means), `logsumexp` (mean over rows), `phi_norm` and `psi_norm` (mean embedding lengths).
    """
    batch = logits.shape[0]
    positive_sum = jnp.trace(logits)
    return {
        "categorical_accuracy": jnp.mean(jnp.argmax(logits, axis=1) == jnp.arange(batch)),
        "logits_positive": positive_sum / batch,
        "logits_negative": (jnp.sum(logits) - positive_sum) / max(batch * (batch - 1), 1),
        "logsumexp": jnp.mean(jax.nn.logsumexp(logits, axis=1)),
        "phi_norm": jnp.mean(jnp.linalg.norm(phi, axis=-1)),
        "psi_norm": jnp.mean(jnp.linalg.norm(psi, axis=-1)),
    }
