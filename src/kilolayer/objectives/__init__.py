"""Objectives: energies, contrastive losses, quasimetrics, the tanh-Gaussian. Pure mathematics."""

from kilolayer.objectives import survival, tanh_gaussian
from kilolayer.objectives.advantages import advantage_weights, expectile_loss, generalized_advantages, normalized
from kilolayer.objectives.contrastive import (
    LOSSES,
    LossName,
    binary_nce,
    contrastive_metrics,
    infonce_backward,
    infonce_forward,
    infonce_symmetric,
    logsumexp_penalty,
    loss_function,
    mean_of_rows,
)
from kilolayer.objectives.energies import Energy, EnergyName
from kilolayer.objectives.quasimetric import check_components, interval_quasimetric
from kilolayer.objectives.sparse_reward import Success, mean_where, sparse_reward
from kilolayer.objectives.survival import Spacing, TimeBins

__all__ = [
    "LOSSES",
    "Energy",
    "EnergyName",
    "LossName",
    "Spacing",
    "Success",
    "TimeBins",
    "advantage_weights",
    "binary_nce",
    "check_components",
    "contrastive_metrics",
    "expectile_loss",
    "generalized_advantages",
    "infonce_backward",
    "infonce_forward",
    "infonce_symmetric",
    "interval_quasimetric",
    "logsumexp_penalty",
    "loss_function",
    "mean_of_rows",
    "mean_where",
    "normalized",
    "sparse_reward",
    "survival",
    "tanh_gaussian",
]
