"""kilolayer: goal-reaching agents with networks up to a thousand layers deep, trained without rewards.

import kilolayer

result = kilolayer.train("point_u_maze", run_dir="runs/mine")
policy = kilolayer.load("runs/mine")
action = policy(observation, desired_goal)
"""

from importlib.metadata import version

from kilolayer.envs import make as make_env
from kilolayer.errors import ConfigurationError, KilolayerError, RunError, TrainingError
from kilolayer.training import Policy, RunDirectory, TrainConfig, TrainResult, default_config, load, train, train_seeds

__version__ = version("kilolayer")

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
