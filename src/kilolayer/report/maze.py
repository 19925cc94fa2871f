"""Pictures of mazes: the paths of episodes, and a number for every place as a colour."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from scipy.spatial import KDTree

from kilolayer.envs import Maze
from kilolayer.report.steps_to_goal import StepsMap
from kilolayer.report.style import BLUE, DARK, ORANGE, new_figure
from kilolayer.report.values import ValueMap
from kilolayer.training import Episodes

PIXELS_PER_CELL = 40
BORDER = 0.15
"""Width of the outer walls that is shown, in cells."""
GOLD, WHITE = "#f0c000", "#ffffff"
"""Colours of goals on white ground, and on a map."""


def extent_in_cells(maze: Maze) -> tuple[float, float]:
    """Return height and width in cells of the part of a maze that pictures show."""
    (top, left), (bottom, right) = _corners(maze)
    return (bottom - top) / maze.cell_size, (right - left) / maze.cell_size


def draw_walls(axes: Axes, maze: Maze) -> None:
    """Draw the walls as the maze's text shows them: rows (x) downwards, columns (y) to the right.

    Of the outer walls only a narrow border is shown.
    """
    half = 0.5 * maze.cell_size
    for x, y in maze.centres(np.argwhere(maze.walls)):
        axes.add_patch(Rectangle((y - half, x - half), maze.cell_size, maze.cell_size, color=DARK, linewidth=0))
    (top, left), (bottom, right) = _corners(maze)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_paths(axes: Axes, maze: Maze, episodes: Episodes) -> None:
    """Draw the paths of episodes until they first reach the goal: blue if they do, orange if not; stars are goals."""
    draw_walls(axes, maze)
    places, success = np.asarray(episodes.achieved_goal), np.asarray(episodes.success & episodes.alive)
    length = np.asarray(episodes.alive).sum(axis=0)
    for index, goal in enumerate(np.asarray(episodes.desired_goal)):
        reached = success[:, index].any()
        end = success[:, index].argmax() + 1 if reached else length[index]
        path = places[: end + 1, index]
        axes.plot(path[:, 1], path[:, 0], color=BLUE if reached else ORANGE, linewidth=0.9, alpha=0.6)
        axes.plot(path[0, 1], path[0, 0], "o", color=DARK, markersize=2.5)
        _draw_goal(axes, goal, color=GOLD, size=11)
    share = success.any(axis=0).mean()
    axes.set_title(f"{success.shape[1]} episodes: {share:.0%} reach the goal", fontsize=10, loc="left")


def draw_field(
    axes: Axes,
    maze: Maze,
    points: Float[np.ndarray, "points 2"],
    field: Float[np.ndarray, " points"],
    goal: Float[np.ndarray, "2"],
    title: str,
    *,
    cmap: str = "viridis",
) -> AxesImage:
    """Draw a number for every place as a colour.

    Every spot of a free cell has the colour of the nearest point. Infinite numbers are orange, NaN is white.

    Args:
        axes: where to draw.
        maze: the walls.
        points: x and y of the places, in metres.
        field: the number of each place.
        goal: x and y of the goal, in metres, which gets a star.
        title: title of the axes.
        cmap: name of matplotlib's colour map, from small numbers to large ones.

    Returns:
        The image, for a colour bar.
    """
    rows, columns = maze.walls.shape
    half = 0.5 * maze.cell_size
    grid = raster(maze, points, field, pixels_per_cell=PIXELS_PER_CELL)
    never = np.isinf(grid)
    draw_walls(axes, maze)
    where = (-half, columns * maze.cell_size - half, rows * maze.cell_size - half, -half)
    overlay = np.zeros((*never.shape, 4))
    overlay[never] = matplotlib.colors.to_rgba(ORANGE, 0.8)
    axes.imshow(overlay, extent=where, interpolation="nearest", zorder=2)
    image = axes.imshow(np.ma.masked_invalid(grid), extent=where, cmap=cmap, interpolation="nearest", zorder=2)
    (top, left), (bottom, right) = _corners(maze)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    _draw_goal(axes, goal, color=WHITE, size=14)
    axes.set_title(title, fontsize=10, loc="left")
    return image


def raster(
    maze: Maze,
    points: Float[np.ndarray, "points 2"],
    field: Float[np.ndarray, " points"],
    *,
    pixels_per_cell: int,
) -> Float[np.ndarray, "rows columns"]:
    """Return a number for every pixel of a maze: that of the nearest point; NaN for walls, and far from all points.

    Args:
        maze: the walls; rows of pixels count along x, columns along y, from the outer edge of the first cell on.
        points: x and y of the places, in metres.
        field: the number of each place.
        pixels_per_cell: pixels along the edge of a cell.
    """
    rows, columns = maze.walls.shape
    spacing, half = maze.cell_size / pixels_per_cell, 0.5 * maze.cell_size
    x, y = ((np.arange(n * pixels_per_cell) + 0.5) * spacing - half for n in (rows, columns))
    pixels = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
    free = np.repeat(np.repeat(~maze.walls, pixels_per_cell, axis=0), pixels_per_cell, axis=1)
    away, nearest = KDTree(points).query(pixels)
    return np.where(free & (away < maze.cell_size), field[nearest], np.nan)


def draw_steps(axes: Axes, maze: Maze, steps: StepsMap) -> AxesImage:
    """Draw the steps that the agent needs from every place: bright is near, orange does not reach the goal."""
    title = (
        f"steps that the agent needs from each place\nrank correlation with the distance {steps.rank_correlation:.2f}"
    )
    return draw_field(axes, maze, steps.points, steps.steps, steps.goal, title, cmap="viridis_r")


def draw_paths_figure(maze: Maze, episodes: Episodes) -> Figure:
    """Draw the paths of episodes as a figure of their own."""
    rows, columns = extent_in_cells(maze)
    figure = new_figure(1.3 * columns + 0.4, 1.3 * rows + 0.6)
    draw_paths(figure.subplots(), maze, episodes)
    return figure


def draw_maps(maze: Maze, steps: Sequence[StepsMap], values: Sequence[ValueMap]) -> Figure:
    """Draw a row for each goal: the steps that the agent needs, the true distance, and the critic's value.

    Args:
        maze: the walls.
        steps: a map for each goal, or none.
        values: maps of the same goals, or none; not both are empty.
    """
    count, columns = max(len(steps), len(values)), 1 + bool(steps) + bool(values)
    rows_in_cells, columns_in_cells = extent_in_cells(maze)
    figure = new_figure(3.7 * columns, count * (3.0 * rows_in_cells / columns_in_cells + 0.6))
    for number, line in enumerate(figure.subplots(count, columns, squeeze=False)):
        panels = list(line)
        known = steps[number] if steps else values[number]
        if steps:
            axes = panels.pop(0)
            figure.colorbar(draw_steps(axes, maze, steps[number]), ax=axes, shrink=0.8)
        axes = panels.pop(0)
        title = "true distance (m)"
        distance = draw_field(axes, maze, known.points, known.distance, known.goal, title, cmap="viridis_r")
        figure.colorbar(distance, ax=axes, shrink=0.8)
        if values:
            axes, each = panels.pop(0), values[number]
            title = f"critic's value, relative to the mean of all cells\nrank correlation {each.rank_correlation:.2f}"
            value = draw_field(axes, maze, each.points, each.value, each.goal, title)
            figure.colorbar(value, ax=axes, shrink=0.8)
    return figure


def _corners(maze: Maze) -> tuple[np.ndarray, np.ndarray]:
    """Return x, y of the upper left and of the lower right corner of what pictures show, in metres."""
    margin = (0.5 + BORDER) * maze.cell_size
    centres = maze.centres(maze.free_cells)
    return centres.min(axis=0) - margin, centres.max(axis=0) + margin


def _draw_goal(axes: Axes, goal: np.ndarray, *, color: str, size: float) -> None:
    axes.plot(goal[1], goal[0], "*", color=color, markeredgecolor=DARK, markersize=size, markeredgewidth=0.8, zorder=3)
