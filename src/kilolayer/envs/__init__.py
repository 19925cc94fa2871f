"""Environments: tasks, engines, and the vectorised environment that joins them."""

from kilolayer.envs import catalog, control, goals, gym, quaternions, randomizing, registry, remembering
from kilolayer.envs.drawing import Drawable, DrawsGoals, Ghost
from kilolayer.envs.engines import EngineSpec, register_engine
from kilolayer.envs.environment import ActionChunk, Environment, EnvironmentState, StepResult
from kilolayer.envs.interface import Engine, MazeTask, Task
from kilolayer.envs.mazes.layouts import LAYOUTS
from kilolayer.envs.mazes.maze import Maze
from kilolayer.envs.registry import EnvironmentSpec, Variant, make, names, register, register_maze_robot, spec
from kilolayer.envs.robot_state import Command, Frames, Mocap, RobotState, Start
from kilolayer.envs.robot_task import RobotTask
from kilolayer.envs.robots.mjcf import installed_file
from kilolayer.envs.robots.servos import add_servos

__all__ = [
    "LAYOUTS",
    "ActionChunk",
    "Command",
    "Drawable",
    "DrawsGoals",
    "Engine",
    "EngineSpec",
    "Environment",
    "EnvironmentSpec",
    "EnvironmentState",
    "Frames",
    "Ghost",
    "Maze",
    "MazeTask",
    "Mocap",
    "RobotState",
    "RobotTask",
    "Start",
    "StepResult",
    "Task",
    "Variant",
    "add_servos",
    "catalog",
    "control",
    "goals",
    "gym",
    "installed_file",
    "make",
    "names",
    "quaternions",
    "randomizing",
    "register",
    "register_engine",
    "register_maze_robot",
    "registry",
    "remembering",
    "spec",
]
