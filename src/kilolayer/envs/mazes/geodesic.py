"""Lengths of shortest paths in a maze, for a robot that keeps a distance from walls."""

import numpy as np
import scipy.sparse
from jaxtyping import Float
from scipy.sparse.csgraph import dijkstra

from kilolayer.envs.mazes.maze import Maze

# Steps of a chess king and knight: computed paths are at most 2.8 % too long in any direction.
_STEPS = [(1, 0), (0, 1), (1, 1), (1, -1), (2, 1), (1, 2), (2, -1), (1, -2)]


def free_points(maze: Maze, clearance: float, *, per_cell: int = 10) -> Float[np.ndarray, "points 2"]:
    """Return the points of a square grid that are at least `clearance` from all walls.

    Args:
        maze: the maze.
        clearance: smallest distance of the robot's centre from a wall, in metres.
        per_cell: grid points along a cell's edge.

    Returns:
        x and y of each point, in metres.
    """
    points, free = _grid(maze, clearance, per_cell)
    return points[free]


def shortest_paths(
    maze: Maze, clearance: float, goal: Float[np.ndarray, "2"], *, per_cell: int = 10
) -> Float[np.ndarray, " points"]:
    """Return the length of the shortest path from each of `free_points` to a goal.

    Args:
        maze: the maze.
        clearance: smallest distance of the robot's centre from a wall, in metres.
        goal: x and y, in metres.
        per_cell: grid points along a cell's edge.

    Returns:
        Length of each path, in metres; infinite where there is none.
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
    # Near the goal the straight line is free, and shorter than the path through the nearest grid point.
    return np.where(offsets <= 2 * spacing, offsets, distances)


def _grid(maze: Maze, clearance: float, per_cell: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all grid points, as (rows, columns, 2) in metres, and whether each is free."""
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
