"""Contrastive losses on a matrix of logits, and metrics of it.

In `logits[i, j]` row i is a state-action pair and column j a goal; the diagonal holds the positives. Where `valid` is
given, state-actions that are not valid are left out: they are no positives, and no negatives for any goal.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kilolayer.errors import ConfigurationError
from kilolayer.objectives.sparse_reward import mean_where

LossName = Literal["infonce_forward", "infonce_backward", "infonce_symmetric", "binary_nce"]

Logits = Float[Array, "batch batch"]
Scalar = Float[Array, ""]
Rows = Bool[Array, " batch"]

LEFT_OUT = -1e9
"""The logit of a state-action that is left out: its share of a softmax is 0."""


def mean_of_rows(values: Float[Array, " batch"], valid: Rows | None) -> Scalar:
    """Return the mean of the valid rows, of all rows if `valid` is None."""
    return jnp.mean(values) if valid is None else mean_where(valid, values)


def infonce_forward(logits: Logits, valid: Rows | None = None) -> Scalar:
    """Return the forward InfoNCE loss: classify the own goal of each state-action among all goals.

    The softmax is over each row (van den Oord et al., 2018; Wang et al., 2025, section 3).

    Args:
        logits: positives on the diagonal.
        valid: state-actions that count; None if all do.
    """
    return mean_of_rows(jax.nn.logsumexp(logits, axis=1) - jnp.diagonal(logits), valid)


def infonce_backward(logits: Logits, valid: Rows | None = None) -> Scalar:
    """Return the backward InfoNCE loss: classify the own state-action of each goal, by softmax over each column."""
    if valid is not None:
        logits = jnp.where(valid[:, None], logits, LEFT_OUT)
    return infonce_forward(logits.T, valid)


def infonce_symmetric(logits: Logits, valid: Rows | None = None) -> Scalar:
    """Return the mean of forward and backward InfoNCE."""
    return 0.5 * (infonce_forward(logits, valid) + infonce_backward(logits, valid))


def binary_nce(logits: Logits, valid: Rows | None = None) -> Scalar:
    """Return the binary NCE loss: logistic regression of positives against negatives (Ma and Collins, 2018).

    A positive weighs as much as all negatives of its row together:
    -log sigmoid(L_ii) - mean over j != i of log sigmoid(-L_ij).
    """
    batch = logits.shape[0]
    positives = jax.nn.log_sigmoid(jnp.diagonal(logits))
    off_diagonal = 1.0 - jnp.eye(batch, dtype=logits.dtype)
    negatives = jnp.sum(jax.nn.log_sigmoid(-logits) * off_diagonal, axis=1) / max(batch - 1, 1)
    return -mean_of_rows(positives + negatives, valid)


Loss = Callable[[Array, Array | None], Array]
"""Takes logits, and which state-actions are valid."""

LOSSES: dict[str, Loss] = {
    "infonce_forward": infonce_forward,
    "infonce_backward": infonce_backward,
    "infonce_symmetric": infonce_symmetric,
    "binary_nce": binary_nce,
}


def loss_function(name: str) -> Loss:
    """Return the contrastive loss called `name`.

    Raises:
        ConfigurationError: for an unknown name; the line lists the losses.
    """
    if name not in LOSSES:
        raise ConfigurationError(f"loss={name!r} is unknown; choose one of {', '.join(LOSSES)}")
    return LOSSES[name]


def logsumexp_penalty(logits: Logits, valid: Rows | None = None) -> Scalar:
    """Return the mean squared logsumexp of the rows, which keeps the logits from drifting (Wang et al., 2025)."""
    return mean_of_rows(jnp.square(jax.nn.logsumexp(logits, axis=1)), valid)


def contrastive_metrics(
    logits: Logits, phi: Float[Array, "batch size"], psi: Float[Array, "batch size"], valid: Rows | None = None
) -> dict[str, Scalar]:
    """Return metrics of how well the critic separates positives from negatives.

    Args:
        logits: positives on the diagonal.
        phi: embeddings of state-actions.
        psi: embeddings of goals.
        valid: state-actions that count; None if all do.

    Returns:
        `categorical_accuracy` (share of rows whose largest logit is the positive), `logits_positive` and
        `logits_negative` (means), `logsumexp` (mean over rows), `phi_norm` and `psi_norm` (mean embedding lengths).
    """
    batch, positives = logits.shape[0], jnp.diagonal(logits)
    own = jnp.argmax(logits, axis=1) == jnp.arange(batch)
    negatives = (jnp.sum(logits, axis=1) - positives) / max(batch - 1, 1)
    return {
        "categorical_accuracy": mean_of_rows(own.astype(logits.dtype), valid),
        "logits_positive": mean_of_rows(positives, valid),
        "logits_negative": mean_of_rows(negatives, valid),
        "logsumexp": mean_of_rows(jax.nn.logsumexp(logits, axis=1), valid),
        "phi_norm": mean_of_rows(jnp.linalg.norm(phi, axis=-1), valid),
        "psi_norm": jnp.mean(jnp.linalg.norm(psi, axis=-1)),
    }
