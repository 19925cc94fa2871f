"""Networks: layers, the torso interface and its kinds, growth, rematerialisation, diagnostics."""

from kilolayer.nn.acting_mlp import ActingMLP, ActingPrecision, QuantizedDense, check_acting_precision
from kilolayer.nn.diagnostics import block_statistics, effective_rank, gradient_norms, spread
from kilolayer.nn.growth import grow
from kilolayer.nn.layers import Activation, Dense, HiddenLayer, LayerNorm, Normalization, Precision, RMSNorm
from kilolayer.nn.residual_mlp import ResidualArchitecture, ResidualMLP, ResidualScaling
from kilolayer.nn.torso import (
    Architecture,
    Torso,
    TorsoSpec,
    project,
    register_torso,
    torso_names,
    torso_spec,
    torsos_in,
    unregister_torso,
)

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
    "ResidualArchitecture",
    "ResidualMLP",
    "ResidualScaling",
    "Torso",
    "TorsoSpec",
    "block_statistics",
    "check_acting_precision",
    "effective_rank",
    "gradient_norms",
    "grow",
    "project",
    "register_torso",
    "spread",
    "torso_names",
    "torso_spec",
    "torsos_in",
    "unregister_torso",
]
