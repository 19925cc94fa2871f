"""Registers the engines of the library. Their modules are imported when an engine is built."""

from kilolayer.envs.engines.registry import EngineSpec, register_engine
from kilolayer.envs.interface import Engine, Task
from kilolayer.envs.mazes.maze import Maze
from kilolayer.envs.robot_task import RobotTask
from kilolayer.errors import ConfigurationError


def _robot(task: Task) -> RobotTask:
    if not isinstance(task, RobotTask):
        raise ConfigurationError(
            f"task {type(task).__name__} is not a RobotTask, so the library's engines for robots cannot run it; "
            "register an engine for it (register_engine)"
        )
    return task


def _mujoco(task: Task) -> Engine:
    from kilolayer.envs.engines.mujoco import MujocoEngine

    return MujocoEngine(_robot(task))


def _mjx(task: Task) -> Engine:
    from kilolayer.envs.engines.mjx import MjxEngine

    return MjxEngine(_robot(task))


def _mjx_warp(task: Task) -> Engine:
    from kilolayer.envs.engines.mjx import MjxEngine

    return MjxEngine(_robot(task), impl="warp")


def _spring(task: Task) -> Engine:
    from kilolayer.envs.engines.spring import SpringEngine

    return SpringEngine(_robot(task))


def _point(task: Task) -> Engine:
    from kilolayer.envs.engines.point import PointEngine

    maze = getattr(task, "maze", None)
    if not isinstance(maze, Maze):
        raise ConfigurationError(f"engine='point' needs a task with a maze; task {type(task).__name__} has no `maze`")
    return PointEngine(maze)


register_engine(
    EngineSpec("mujoco", "MuJoCo's C engine on all cores of the CPU", _mujoco, physics="mujoco", runs_on="host")
)
register_engine(
    EngineSpec("mjx", "MuJoCo XLA, compiled by JAX", _mjx, needs="pip install 'kilolayer[mjx]'", physics="mujoco")
)
register_engine(
    EngineSpec(
        "mjx-warp",
        "MuJoCo XLA with Warp, for NVIDIA GPUs",
        _mjx_warp,
        needs="pip install 'kilolayer[warp]'",
        same_tasks_as="mjx",
        physics="mujoco",
    )
)
register_engine(
    EngineSpec(
        "spring",
        "Brax's spring pipeline, as for the paper's ants and humanoids",
        _spring,
        needs="pip install 'kilolayer[brax]'",
    )
)
register_engine(EngineSpec("point", "discs in mazes, exact at walls, in pure JAX", _point))
