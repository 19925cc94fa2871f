"""True shortest-path distances in a maze, for a robot that needs some room."""

import numpy as np
import scipy.sparse
from jaxtyping import Float
from scipy.sparse.csgraph import dijkstra

from kilolayer.envs.mazes.maze import Maze

# Steps of a chess king and knight: path lengths come out at most 2.8 % too long, whatever their direction.
_STEPS = [(1, 0), (0, 1), (1, 1), (1, -1), (2, 1), (1, 2), (2, -1), (1, -2)]


def free_points(maze: Maze, clearance: float, *, per_cell: int = 10) -> Float[np.ndarray, "points 2"]:
    """Return the points of a square grid (`per_cell` to a cell edge, metres) at least `clearance` from all walls."""
    points, free = _grid(maze, clearance, per_cell)
    return points[free]


def shortest_paths(
    maze: Maze, clearance: float, goal: Float[np.ndarray, "2"], *, per_cell: int = 10
) -> Float[np.ndarray, " points"]:
    """Return the length in metres of the shortest way from each of `free_points` to `goal`.

    Args:
        maze: the walls.
        clearance: how near to a wall the robot's centre can come, in metres.
        goal: x and y in metres.
        per_cell: grid points to a cell edge.
    """
    points, free = _grid(maze, clearance, per_cell)
    spacing = maze.cell_size / per_cell
    number = np.cumsum(free).reshape(free.shape) - 1
    sources, targets, lengths = [], [], []
    for di, dj in _STEPS:
        rows, columns = free.shape
        here = np.zeros_like(free)
        here[: rows - di, max(0, -dj) : columns - max(0, dj)] = True
        i, j = np.nonzero(here & free)
        linked = free[i + di, j + dj]
        sources.append(number[i[linked], j[linked]])
        targets.append(number[i[linked] + di, j[linked] + dj])
        lengths.append(np.full(linked.sum(), spacing * np.hypot(di, dj)))
    count = int(free.sum())
    graph = scipy.sparse.csr_array(
        (np.concatenate(lengths), (np.concatenate(sources), np.concatenate(targets))), shape=(count, count)
    )
    offsets = np.linalg.norm(points[free] - goal, axis=-1)
    nearest = int(offsets.argmin())
    distances: np.ndarray = dijkstra(graph, directed=False, indices=[nearest])[0]
    # Near the goal the straight line is open, and better than the way by the nearest grid point.
    return np.where(offsets <= 2 * spacing, offsets, distances)


def _grid(maze: Maze, clearance: float, per_cell: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all grid points as (rows, columns, 2) in metres, and which of them are free."""
    spacing = maze.cell_size / per_cell
    rows, columns = maze.walls.shape
    x, y = ((np.arange(n * per_cell) + 0.5) * spacing - 0.5 * maze.cell_size for n in (rows, columns))
    points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
    free = np.ones(points.shape[:2], bool)
    half = 0.5 * maze.cell_size
    for centre in maze.centres(np.argwhere(maze.walls)):
        outside = np.maximum(np.abs(points - centre) - half, 0.0)
        free &= np.linalg.norm(outside, axis=-1) >= clearance
    return points, free
