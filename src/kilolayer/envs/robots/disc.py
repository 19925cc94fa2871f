"""The disc of the point mazes as a MuJoCo model, for pictures. Its physics is the engine `point`."""

from typing import Final

import mujoco

from kilolayer.envs.mazes.maze import Maze
from kilolayer.envs.mazes.walls import add_walls

RGBA: Final = (0.0, 0.447, 0.698, 1.0)
WALL_SHARE: Final = 0.3
"""Height of the walls as a fraction of a cell's edge."""


def disc_in_maze(maze: Maze, radius: float) -> mujoco.MjSpec:
    """Return a disc on two slide joints (x, y) between the walls of a maze.

    Args:
        maze: the walls.
        radius: of the disc, in metres.
    """
    spec = mujoco.MjSpec()
    spec.worldbody.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1])
    add_walls(spec, maze, height=WALL_SHARE * maze.cell_size)
    disc = spec.worldbody.add_body(name="disc")
    half_height = 0.35 * radius
    for axis in ((1, 0, 0), (0, 1, 0)):
        disc.add_joint(type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis)
    kind = mujoco.mjtGeom.mjGEOM_CYLINDER
    disc.add_geom(type=kind, size=[radius, half_height, 0], pos=[0, 0, half_height], rgba=RGBA)
    return spec
