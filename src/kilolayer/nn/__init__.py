"""Networks and objectives: the deep residual MLP, energies, contrastive losses, the tanh-Gaussian."""

from kilolayer.nn import tanh_gaussian
from kilolayer.nn.acting_mlp import ActingMLP, ActingPrecision, QuantizedDense, check_acting_precision
from kilolayer.nn.architecture import Architecture, ResidualScaling
from kilolayer.nn.contrastive import (
    LOSSES,
    LossName,
    binary_nce,
    contrastive_metrics,
    infonce_backward,
    infonce_forward,
    infonce_symmetric,
    logsumexp_penalty,
    loss_function,
)
from kilolayer.nn.diagnostics import block_statistics, effective_rank, gradient_norms, spread
from kilolayer.nn.energies import Energy, EnergyName
from kilolayer.nn.growth import check_growable, graft, grow
from kilolayer.nn.layers import Activation, Dense, HiddenLayer, LayerNorm, Normalization, Precision, RMSNorm
from kilolayer.nn.quasimetric import check_components, interval_quasimetric
from kilolayer.nn.residual_mlp import ResidualMLP

__all__ = [
    "LOSSES",
    "ActingMLP",
    "ActingPrecision",
    "Activation",
    "Architecture",
    "Dense",
    "Energy",
    "EnergyName",
    "HiddenLayer",
    "LayerNorm",
    "LossName",
    "Normalization",
    "Precision",
    "QuantizedDense",
    "RMSNorm",
    "ResidualMLP",
    "ResidualScaling",
    "binary_nce",
    "block_statistics",
    "check_acting_precision",
    "check_components",
    "check_growable",
    "contrastive_metrics",
    "effective_rank",
    "gradient_norms",
    "graft",
    "grow",
    "infonce_backward",
    "infonce_forward",
    "infonce_symmetric",
    "interval_quasimetric",
    "logsumexp_penalty",
    "loss_function",
    "spread",
    "tanh_gaussian",
]
