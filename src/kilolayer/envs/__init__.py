"""Environments: tasks, engines, and the vectorised environment that joins them."""

from kilolayer.envs import catalog, gym, registry
from kilolayer.envs.drawing import Drawable, DrawsGoals, Ghost
from kilolayer.envs.engines import EngineSpec, register_engine
from kilolayer.envs.environment import ActionChunk, Environment, EnvironmentState, StepResult
from kilolayer.envs.interface import Engine, MazeTask, Task
from kilolayer.envs.mazes.layouts import LAYOUTS
from kilolayer.envs.mazes.maze import Maze
from kilolayer.envs.registry import EnvironmentSpec, Variant, make, names, register, spec
from kilolayer.envs.robot_task import RobotState, RobotTask, Start
from kilolayer.envs.robots.servos import add_servos

__all__ = [
    "LAYOUTS",
    "ActionChunk",
    "Drawable",
    "DrawsGoals",
    "Engine",
    "EngineSpec",
    "Environment",
    "EnvironmentSpec",
    "EnvironmentState",
    "Ghost",
    "Maze",
    "MazeTask",
    "RobotState",
    "RobotTask",
    "Start",
    "StepResult",
    "Task",
    "Variant",
    "add_servos",
    "catalog",
    "gym",
    "make",
    "names",
    "register",
    "register_engine",
    "registry",
    "spec",
]
