"""Networks: layers, the torso interface and its kinds, rematerialisation, 8 bit weights, diagnostics."""

from kilolayer.nn.dense import Dense, Precision
from kilolayer.nn.diagnostics import block_statistics, effective_rank, gradient_norms, spread
from kilolayer.nn.hyperspherical import Hyperspherical, HypersphericalArchitecture
from kilolayer.nn.layers import Activation, HiddenLayer, LayerNorm, Normalization, RMSNorm
from kilolayer.nn.masked import MaskedTorso, with_all_blocks
from kilolayer.nn.quantized import QuantizedDense
from kilolayer.nn.residual_mlp import ResidualArchitecture, ResidualMLP, ResidualScaling
from kilolayer.nn.short_chain import call_together
from kilolayer.nn.stack import BlockOutput, StackedArchitecture, StackedTorso
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
from kilolayer.nn.transformer import Transformer, TransformerArchitecture

__all__ = [
    "Activation",
    "Architecture",
    "BlockOutput",
    "Dense",
    "HiddenLayer",
    "Hyperspherical",
    "HypersphericalArchitecture",
    "LayerNorm",
    "MaskedTorso",
    "Normalization",
    "Precision",
    "QuantizedDense",
    "RMSNorm",
    "ResidualArchitecture",
    "ResidualMLP",
    "ResidualScaling",
    "StackedArchitecture",
    "StackedTorso",
    "Torso",
    "TorsoSpec",
    "Transformer",
    "TransformerArchitecture",
    "block_statistics",
    "call_together",
    "effective_rank",
    "gradient_norms",
    "project",
    "register_torso",
    "spread",
    "torso_names",
    "torso_spec",
    "torsos_in",
    "unregister_torso",
    "with_all_blocks",
]
