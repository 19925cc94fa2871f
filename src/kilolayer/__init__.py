"""kilolayer: goal-reaching agents with networks up to a thousand layers deep, trained without rewards.

import kilolayer

result = kilolayer.train("point_u_maze", run_dir="runs/mine")
policy = kilolayer.load("runs/mine")
action = policy(observation, desired_goal)
"""

import importlib
from typing import TYPE_CHECKING, Any

from kilolayer.version import __version__ as __version__

if TYPE_CHECKING:
    from kilolayer.envs import make as make_env
    from kilolayer.errors import ConfigurationError, KilolayerError, RunError, TrainingError
    from kilolayer.loading import load
    from kilolayer.policies.policy import Policy
    from kilolayer.runs.config import TrainConfig
    from kilolayer.runs.defaults import default_config
    from kilolayer.runs.run_directory import RunDirectory
    from kilolayer.training.distillation import distill
    from kilolayer.training.pruning import prune
    from kilolayer.training.start import train, train_seeds
    from kilolayer.training.trainer import TrainResult

__all__ = [
    "ConfigurationError",
    "KilolayerError",
    "Policy",
    "RunDirectory",
    "RunError",
    "TrainConfig",
    "TrainResult",
    "TrainingError",
    "default_config",
    "distill",
    "load",
    "make_env",
    "prune",
    "train",
    "train_seeds",
]

_HOMES = {
    "ConfigurationError": "kilolayer.errors",
    "KilolayerError": "kilolayer.errors",
    "Policy": "kilolayer.policies.policy",
    "RunDirectory": "kilolayer.runs.run_directory",
    "RunError": "kilolayer.errors",
    "TrainConfig": "kilolayer.runs.config",
    "TrainResult": "kilolayer.training.trainer",
    "TrainingError": "kilolayer.errors",
    "default_config": "kilolayer.runs.defaults",
    "distill": "kilolayer.training.distillation",
    "load": "kilolayer.loading",
    "make_env": "kilolayer.envs",
    "prune": "kilolayer.training.pruning",
    "train": "kilolayer.training.start",
    "train_seeds": "kilolayer.training.start",
}
"""The module of each public name. It is imported when the name is first used, and with it JAX or MuJoCo."""

_OWN_NAMES = {"make_env": "make"}
"""Names that are others in their module."""

_ROOMS = (
    *("agents", "bench", "cli", "data", "envs", "nn", "objectives"),
    *("policies", "render", "report", "runs", "studies", "training"),
)
"""Subpackages; `kilolayer.envs` imports itself when it is first used."""


def __getattr__(name: str) -> Any:
    """Import a public name or a subpackage when it is first used."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), _OWN_NAMES.get(name, name))
    if name in _ROOMS:
        return importlib.import_module(f"kilolayer.{name}")
    raise AttributeError(f"module 'kilolayer' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names and the subpackages."""
    return [*__all__, *_ROOMS, "__version__"]
