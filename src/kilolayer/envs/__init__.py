"""Environments: tasks, engines, and the vectorised environment that joins them."""

from kilolayer.envs import catalog, registry
from kilolayer.envs.environment import Engine, Environment, EnvironmentState, MazeTask, StepResult, Task
from kilolayer.envs.mazes.layouts import LAYOUTS
from kilolayer.envs.mazes.maze import Maze
from kilolayer.envs.registry import EnvironmentSpec, Variant, make, names, register, spec
from kilolayer.envs.robot_task import RobotState, RobotTask, Start

__all__ = [
    "LAYOUTS",
    "Engine",
    "Environment",
    "EnvironmentSpec",
    "EnvironmentState",
    "Maze",
    "MazeTask",
    "RobotState",
    "RobotTask",
    "Start",
    "StepResult",
    "Task",
    "Variant",
    "catalog",
    "make",
    "names",
    "register",
    "registry",
    "spec",
]
