"""kilolayer: goal-reaching agents with networks up to a thousand layers deep, trained without rewards.

import kilolayer

result = kilolayer.train("point_u_maze", run_dir="runs/mine")
policy = kilolayer.load("runs/mine")
action = policy(observation, desired_goal)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kilolayer.envs.registry import make as make_env
    from kilolayer.errors import ConfigurationError, KilolayerError, RunError, TrainingError
    from kilolayer.runs.config import TrainConfig, default_config
    from kilolayer.runs.run_directory import RunDirectory
    from kilolayer.training.policy import Policy, load
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
    "load",
    "make_env",
    "train",
    "train_seeds",
]

_LAZY = {
    "ConfigurationError": "kilolayer.errors",
    "KilolayerError": "kilolayer.errors",
    "Policy": "kilolayer.training.policy",
    "RunDirectory": "kilolayer.runs.run_directory",
    "RunError": "kilolayer.errors",
    "TrainConfig": "kilolayer.runs.config",
    "TrainResult": "kilolayer.training.trainer",
    "TrainingError": "kilolayer.errors",
    "default_config": "kilolayer.runs.config",
    "load": "kilolayer.training.policy",
    "make_env": "kilolayer.envs.registry.make",
    "train": "kilolayer.training.start",
    "train_seeds": "kilolayer.training.start",
}
"""Where each public name is defined. JAX and MuJoCo are imported when a name that needs them is first used."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name == "__version__":
        from importlib.metadata import version

        return version("kilolayer")
    if name == "make_env":
        from kilolayer.envs import make

        return make
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'kilolayer' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__version__"]
