"""Runs: configuration, presets, clocks, the run directory, checkpoints and metric sinks."""

from kilolayer.runs import ogbench  # noqa: F401  (it registers its preset)
from kilolayer.runs.checkpoints import Checkpoints
from kilolayer.runs.clock import Clocks, Count
from kilolayer.runs.config import TrainConfig
from kilolayer.runs.defaults import default_config
from kilolayer.runs.presets import (
    GPU,
    HIGH_UTD,
    LAPTOP,
    NamedPreset,
    named_preset,
    named_presets,
    preset,
    register_named_preset,
    register_preset,
    unregister_named_preset,
    unregister_preset,
)
from kilolayer.runs.run_directory import RunDirectory, read_config
from kilolayer.runs.seed_group import SeedGroup, parse_seeds

__all__ = [
    "GPU",
    "HIGH_UTD",
    "LAPTOP",
    "Checkpoints",
    "Clocks",
    "Count",
    "NamedPreset",
    "RunDirectory",
    "SeedGroup",
    "TrainConfig",
    "default_config",
    "named_preset",
    "named_presets",
    "parse_seeds",
    "preset",
    "read_config",
    "register_named_preset",
    "register_preset",
    "unregister_named_preset",
    "unregister_preset",
]
