"""Fused kernels for a GPU: the walk through all residual blocks of a network, forwards and backwards, in one launch."""

from kilolayer.nn.kernels.walk import (
    FUSED,
    PRECISIONS,
    WIDTHS,
    Backward,
    Forward,
    Parameters,
    Walk,
    backward,
    check_device,
    forward,
    fused_operations,
    run_here,
)

__all__ = [
    "FUSED",
    "PRECISIONS",
    "WIDTHS",
    "Backward",
    "Forward",
    "Parameters",
    "Walk",
    "backward",
    "check_device",
    "forward",
    "fused_operations",
    "run_here",
]
