"""Environments: tasks, engines, and the vectorised environment that joins them."""

from kilolayer.envs import registry
from kilolayer.envs.environment import Engine, Environment, EnvironmentState, MazeTask, StepResult, Task
from kilolayer.envs.maze import LAYOUTS, Maze
from kilolayer.envs.registry import EnvironmentSpec, make, names, register, spec

__all__ = [
    "LAYOUTS",
    "Engine",
    "Environment",
    "EnvironmentSpec",
    "EnvironmentState",
    "Maze",
    "MazeTask",
    "StepResult",
    "Task",
    "make",
    "names",
    "register",
    "registry",
    "spec",
]
