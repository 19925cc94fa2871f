"""Networks and objectives: the deep residual MLP, energies, contrastive losses, the tanh-Gaussian."""

from kilolayer.nn import tanh_gaussian
from kilolayer.nn.acting_mlp import ActingMLP, Precision, QuantizedDense, check_precision
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
from kilolayer.nn.energies import Energy, EnergyName
from kilolayer.nn.layers import Activation, Dense, HiddenLayer, LayerNorm, Normalization, RMSNorm
from kilolayer.nn.residual_mlp import Architecture, ResidualMLP, ResidualScaling

__all__ = [
    "LOSSES",
    "ActingMLP",
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
    "check_precision",
    "contrastive_metrics",
    "infonce_backward",
    "infonce_forward",
    "infonce_symmetric",
    "logsumexp_penalty",
    "loss_function",
    "tanh_gaussian",
]
