"""An environment as its model says: without what is drawn to make a policy robust."""

import copy
import dataclasses

from kilolayer.envs.environment import Environment
from kilolayer.envs.robot_task import RobotTask
from kilolayer.errors import ConfigurationError


def nominal(environment: Environment) -> Environment:
    """Return an environment whose robots are all as the model says, with exact sensors and no pushes.

    Starts and goals are drawn as before; see `RobotTask.randomized`.

    Raises:
        ConfigurationError: if nothing else is drawn.
    """
    task = environment.task
    if not isinstance(task, RobotTask) or not task.random_parts:
        raise ConfigurationError(f"env {environment.name!r} draws nothing at random beside starts and goals")
    task = copy.copy(task)
    task.randomized = False
    return dataclasses.replace(environment, task=task)
