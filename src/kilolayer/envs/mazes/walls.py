"""Walls of a maze as boxes in a MuJoCo model."""

import mujoco
import numpy as np
from jaxtyping import Bool

from kilolayer.envs.mazes.maze import Maze

RGBA = (0.60, 0.62, 0.66, 1.0)


def add_walls(
    spec: mujoco.MjSpec,
    maze: Maze,
    *,
    height: float,
    contype: int = 1,
    conaffinity: int = 1,
    box_per_cell: bool = False,
) -> None:
    """Add the walls of a maze to a model, as boxes named `wall_0`, `wall_1`, ...

    A box that covers several cells has no seams on which a robot gets caught, and is as cheap as a box of one cell.

    Args:
        spec: the model, edited in place.
        maze: the maze.
        height: height of the walls above z = 0, in metres.
        contype: contact type bits of the boxes.
        conaffinity: contact affinity bits of the boxes.
        box_per_cell: add a box for each cell, as the paper's code does, instead of as few as possible.
    """
    cells = [(*cell, 1, 1) for cell in np.argwhere(maze.walls).tolist()]
    for number, (row, column, rows, columns) in enumerate(cells if box_per_cell else rectangles(maze.walls)):
        spec.worldbody.add_geom(
            name=f"wall_{number}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[
                (row + 0.5 * (rows - 1)) * maze.cell_size,
                (column + 0.5 * (columns - 1)) * maze.cell_size,
                height / 2,
            ],
            size=[0.5 * rows * maze.cell_size, 0.5 * columns * maze.cell_size, height / 2],
            contype=contype,
            conaffinity=conaffinity,
            rgba=RGBA,
        )


def rectangles(cells: Bool[np.ndarray, "rows columns"]) -> list[tuple[int, int, int, int]]:
    """Cover the true cells with rectangles that do not overlap.

    Args:
        cells: the cells to cover.

    Returns:
        First row, first column, number of rows and number of columns of each rectangle, the largest first.
    """
    left = cells.copy()
    found = []
    while left.any():
        best = max((_grow(left, row, column) for row, column in np.argwhere(left).tolist()), key=lambda r: r[2] * r[3])
        row, column, rows, columns = best
        left[row : row + rows, column : column + columns] = False
        found.append(best)
    return found


def _grow(cells: Bool[np.ndarray, "rows columns"], row: int, column: int) -> tuple[int, int, int, int]:
    """Return the largest rectangle of true cells with its first corner at row, column."""
    best = (row, column, 1, 1)
    widest = cells.shape[1] - column
    for last in range(row, cells.shape[0]):
        blocked = np.flatnonzero(~cells[last, column : column + widest])
        widest = int(blocked[0]) if blocked.size else widest
        if widest == 0:
            break
        if (last - row + 1) * widest > best[2] * best[3]:
            best = (row, column, last - row + 1, widest)
    return best
