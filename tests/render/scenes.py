"""Small scenes for tests: a disc that walks to its goal."""

import numpy as np

from kilolayer.envs import LAYOUTS, Maze
from kilolayer.envs.tasks import PointMaze
from kilolayer.render.scene import Motion, Scene, scene_model


def point_scene(*, frames: int = 13, episodes: int = 2) -> Scene:
    """Return episodes in the u maze, from the start along the first corridor to a goal that is reached halfway."""
    maze = Maze(LAYOUTS["u"])
    task = PointMaze(maze)
    path = np.linspace([1.5, 1.5], [1.5, 4.5], frames)
    goal = np.array([1.5, 3.6, 0.0])
    success = np.linalg.norm(path - goal[:2], axis=-1) < task.success_distance
    motion = Motion(path, np.tile(goal, (frames, 1)), task.success_distance, success, int(success.sum()))
    return Scene("point_u_maze", scene_model(task), [motion] * episodes, 0.1, True, maze)
