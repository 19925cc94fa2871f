"""Networks: layers, the deep residual MLP, growth, rematerialisation, diagnostics."""

from kilolayer.nn.acting_mlp import ActingMLP, ActingPrecision, QuantizedDense, check_acting_precision
from kilolayer.nn.architecture import Architecture, ResidualScaling
from kilolayer.nn.diagnostics import block_statistics, effective_rank, gradient_norms, spread
from kilolayer.nn.growth import check_growable, graft, grow
from kilolayer.nn.layers import Activation, Dense, HiddenLayer, LayerNorm, Normalization, Precision, RMSNorm
from kilolayer.nn.residual_mlp import ResidualMLP

__all__ = [
    "ActingMLP",
    "ActingPrecision",
    "Activation",
    "Architecture",
    "Dense",
    "HiddenLayer",
    "LayerNorm",
    "Normalization",
    "Precision",
    "QuantizedDense",
    "RMSNorm",
    "ResidualMLP",
    "ResidualScaling",
    "block_statistics",
    "check_acting_precision",
    "check_growable",
    "effective_rank",
    "gradient_norms",
    "graft",
    "grow",
    "spread",
]
