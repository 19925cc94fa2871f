"""Pictures of mazes: where episodes went, and how near the critic takes every place to be."""

import dataclasses

import jax
import numpy as np
import scipy.stats
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from kilolayer.envs import Environment, Maze, MazeTask
from kilolayer.envs.mazes.geodesic import free_points, shortest_paths
from kilolayer.policies import Policy
from kilolayer.report.style import BLUE, DARK, ORANGE, new_figure
from kilolayer.training import Episodes

POINTS_PER_CELL = 10


@dataclasses.dataclass(frozen=True)
class ValueMap:
    """The critic's value and the true distance of every reachable place, for one goal."""

    goal: Float[np.ndarray, "2"]
    points: Float[np.ndarray, "points 2"]
    """x and y in metres."""
    value: Float[np.ndarray, " points"]
    """The critic's value, the mean over the task's typical states there; larger is nearer."""
    distance: Float[np.ndarray, " points"]
    """Metres to the goal along the shortest path."""

    @property
    def rank_correlation(self) -> float:
        """Spearman's correlation of value with minus the distance: 1 if the critic ranks all places rightly."""
        return float(scipy.stats.spearmanr(self.value, -self.distance).statistic)

    @property
    def euclidean_correlation(self) -> float:
        """Spearman's correlation of value with minus the straight-line distance: 1 if walls play no part in it."""
        straight = np.linalg.norm(self.points - self.goal, axis=-1)
        return float(scipy.stats.spearmanr(self.value, -straight).statistic)


def value_map(
    policy: Policy, environment: Environment, goal: Float[np.ndarray, "2"], *, per_cell: int = POINTS_PER_CELL
) -> ValueMap:
    """Ask the critic of `policy` about the reachable places of a maze, `per_cell` to a cell's edge."""
    task = environment.task
    assert isinstance(task, MazeTask)
    points = free_points(task.maze, task.clearance, per_cell=per_cell)
    distance = shortest_paths(task.maze, task.clearance, goal, per_cell=per_cell)
    reachable = np.isfinite(distance)
    points, distance = points[reachable], distance[reachable]
    observations = jax.vmap(task.observations_at)(points.astype(np.float32))
    goals = np.broadcast_to(goal.astype(np.float32), (*observations.shape[:2], goal.size))
    value = policy.value(observations, goals).mean(axis=1)
    return ValueMap(goal, points, value, distance)


def chosen_goals(maze: Maze, *, count: int = 3) -> Float[np.ndarray, "goals 2"]:
    """Return up to `count` goals of a maze, from the farthest to the nearest."""
    lengths = maze.path_lengths(maze.start_cells)[tuple(maze.goal_cells.T)]
    order = np.argsort(-lengths, kind="stable")
    picks = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    return maze.centres(maze.goal_cells[order[picks]])


def draw_walls(axes: Axes, maze: Maze) -> None:
    """Draw the walls as the text shows them: rows (x) downwards, columns (y) to the right."""
    half = 0.5 * maze.cell_size
    for x, y in maze.centres(np.argwhere(maze.walls)):
        axes.add_patch(Rectangle((y - half, x - half), maze.cell_size, maze.cell_size, color=DARK, linewidth=0))
    rows, columns = maze.walls.shape
    axes.set_xlim(-half, columns * maze.cell_size - half)
    axes.set_ylim(rows * maze.cell_size - half, -half)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])


def draw_paths(axes: Axes, maze: Maze, episodes: Episodes) -> None:
    """Draw episodes over the walls, up to where they first reach the goal: reached ones blue, others orange."""
    draw_walls(axes, maze)
    places, success = np.asarray(episodes.achieved_goal), np.asarray(episodes.success & episodes.alive)
    length = np.asarray(episodes.alive).sum(axis=0)
    for index, goal in enumerate(np.asarray(episodes.desired_goal)):
        reached = success[:, index].any()
        end = success[:, index].argmax() + 1 if reached else length[index]
        path = places[: end + 1, index]
        axes.plot(path[:, 1], path[:, 0], color=BLUE if reached else ORANGE, linewidth=0.9, alpha=0.6)
        axes.plot(path[0, 1], path[0, 0], "o", color=DARK, markersize=2.5)
        axes.plot(goal[1], goal[0], "*", color="#f0c000", markeredgecolor=DARK, markersize=11, markeredgewidth=0.7)
    share = success.any(axis=0).mean()
    axes.set_title(f"{success.shape[1]} episodes: {share:.0%} reach the goal", fontsize=10, loc="left")


def draw_field(
    axes: Axes,
    maze: Maze,
    points: np.ndarray,
    field: np.ndarray,
    goal: np.ndarray,
    title: str,
    *,
    per_cell: int = POINTS_PER_CELL,
) -> AxesImage:
    """Draw a number for every point as colour, bright is near."""
    rows, columns = maze.walls.shape
    grid = np.full((rows * per_cell, columns * per_cell), np.nan)
    cells = np.round((points / maze.cell_size + 0.5) * per_cell - 0.5).astype(int)
    grid[cells[:, 0], cells[:, 1]] = field
    draw_walls(axes, maze)
    half = 0.5 * maze.cell_size
    extent = (-half, columns * maze.cell_size - half, rows * maze.cell_size - half, -half)
    image = axes.imshow(grid, extent=extent, cmap="viridis", interpolation="nearest", zorder=2)
    axes.plot(goal[1], goal[0], "*", color="#f0c000", markeredgecolor=DARK, markersize=13, zorder=3)
    axes.set_title(title, fontsize=10, loc="left")
    return image


def draw_paths_figure(maze: Maze, episodes: Episodes) -> Figure:
    """Draw episodes over the walls as a figure of their own."""
    rows, columns = maze.walls.shape
    figure = new_figure(0.9 * columns + 0.4, 0.9 * rows + 0.6)
    draw_paths(figure.subplots(), maze, episodes)
    return figure


def draw_value_maps(maze: Maze, maps: list[ValueMap]) -> Figure:
    """Draw for each goal the critic's value beside the true distance."""
    rows, columns = maze.walls.shape
    height = 4.2 * rows / columns + 0.5
    figure = new_figure(10.0, height * len(maps))
    for (left, right), each in zip(figure.subplots(len(maps), 2, squeeze=False), maps, strict=True):
        value = draw_field(
            left,
            maze,
            each.points,
            each.value,
            each.goal,
            f"critic's value, rank correlation {each.rank_correlation:.3f}",
        )
        distance = draw_field(right, maze, each.points, -each.distance, each.goal, "minus the true distance (m)")
        figure.colorbar(value, ax=left, shrink=0.8)
        figure.colorbar(distance, ax=right, shrink=0.8)
    return figure
