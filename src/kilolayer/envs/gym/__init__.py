"""Goal environments of Gymnasium, of OGBench and of users as environments of this library, by names like `gym:ID`."""

from kilolayer.envs.gym import family
from kilolayer.envs.gym.environment import GymEnvironment
from kilolayer.envs.gym.task import GymTask

__all__ = ["GymEnvironment", "GymTask", "family"]
