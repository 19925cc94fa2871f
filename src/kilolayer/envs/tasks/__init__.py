"""Tasks: what to reach, as pure functions on one robot."""

from kilolayer.envs.tasks.point_maze import PointMaze

__all__ = ["PointMaze"]
