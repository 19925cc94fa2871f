"""Runs: configuration, presets, the run directory, checkpoints and metric sinks."""

from kilolayer.runs.checkpoints import Checkpoints
from kilolayer.runs.config import TrainConfig, default_config
from kilolayer.runs.run_directory import RunDirectory, read_config

__all__ = [
    "Checkpoints",
    "RunDirectory",
    "TrainConfig",
    "default_config",
    "read_config",
]
