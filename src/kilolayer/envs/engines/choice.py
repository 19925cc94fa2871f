"""Which engine moves a task: by name, or the one that suits the machine."""

from typing import Literal, get_args

import jax

from kilolayer.envs.engines.point import PointEngine
from kilolayer.envs.environment import Engine, Task
from kilolayer.envs.robot_task import RobotTask
from kilolayer.envs.tasks.point_maze import PointMaze
from kilolayer.errors import ConfigurationError, nearest_names

EngineName = Literal["auto", "mujoco", "mjx", "mjx-warp", "spring", "point"]

ENGINES: tuple[str, ...] = get_args(EngineName)
"""`auto`, and what it can stand for."""


def default_engine(task_engines: tuple[str, ...]) -> str:
    """Return what `auto` means on this machine: of the engines that can move a task, MJX on a GPU, else the first."""
    return "mjx" if "mjx" in task_engines and jax.default_backend() != "cpu" else task_engines[0]


def make_engine(name: str, task: Task) -> Engine:
    """Build the engine called `name` for a task.

    Raises:
        ConfigurationError: if there is no such engine, it cannot move the task, or what it needs is not installed.
    """
    if name not in ENGINES:
        raise ConfigurationError(f"engine={name!r} is unknown; {nearest_names(name, ENGINES)}")
    if name == "auto":
        name = default_engine(task.engines)
    if name.removesuffix("-warp") not in task.engines:
        raise ConfigurationError(
            f"engine={name!r} cannot move task {type(task).__name__}; it runs on {', '.join(task.engines)}"
        )
    if isinstance(task, PointMaze):
        return PointEngine(task.maze)
    if not isinstance(task, RobotTask):
        raise ConfigurationError(
            f"task {type(task).__name__} is no RobotTask, so no engine here moves it; register it with an `engine`"
        )
    match name:
        case "mujoco":
            from kilolayer.envs.engines.mujoco import MujocoEngine

            return MujocoEngine(task)
        case "spring":
            from kilolayer.envs.engines.spring import SpringEngine

            return SpringEngine(task)
        case _:
            from kilolayer.envs.engines.mjx import MjxEngine

            return MjxEngine(task, impl="warp" if name == "mjx-warp" else "jax")
