import numpy as np
import pytest

from kilolayer.envs import LAYOUTS, Maze
from kilolayer.envs.mazes.geodesic import free_points, shortest_paths

ROOM = "########\n#R.....#\n#......#\n#......#\n#......#\n#.....G#\n########"


@pytest.mark.parametrize("layout", ["u", "big", "hardest"])
def test_free_points_keep_clear_of_walls_and_fill_the_rest(layout: str) -> None:
    maze, clearance = Maze(LAYOUTS[layout], cell_size=2.0), 0.25
    points = free_points(maze, clearance)
    gap = np.full(len(points), np.inf)
    for cell in np.argwhere(maze.walls):
        outside = np.maximum(np.abs(points - 2.0 * cell) - 1.0, 0.0)
        gap = np.minimum(gap, np.linalg.norm(outside, axis=-1))
    assert gap.min() >= clearance
    inner = free_points(maze, clearance + 0.3)
    assert 100 * len(maze.free_cells) > len(points) > len(inner) > 0
    cells = np.round(points / 2.0).astype(int)
    assert {tuple(cell) for cell in np.unique(cells, axis=0)} == {tuple(cell) for cell in maze.free_cells}


def test_distances_in_an_empty_room_are_straight_lines() -> None:
    maze = Maze(ROOM)
    goal = maze.centres(maze.goal_cells)[0]
    straight = np.linalg.norm(free_points(maze, 0.25) - goal, axis=-1)
    distances = shortest_paths(maze, 0.25, goal)
    spacing = maze.cell_size / 10
    assert (distances >= straight - spacing).all()
    assert (distances <= 1.028 * straight + spacing).all()


@pytest.mark.parametrize("clearance", [0.05, 0.25])
def test_distances_go_round_the_wall_of_a_u(clearance: float) -> None:
    maze = Maze(LAYOUTS["u"], cell_size=2.0)
    start, goal = np.array([2.0, 2.0]), np.array([6.0, 2.0])
    points = free_points(maze, clearance)
    distances = shortest_paths(maze, clearance, goal)
    nearest = np.linalg.norm(points - start, axis=-1).argmin()
    # From (2, 2) round the end of the wall, whose corners are (3, 5) and (5, 5), to (6, 2).
    shortest = np.hypot(1.0, 3.0) + 2.0 + np.hypot(1.0, 3.0)
    assert shortest - 0.3 < distances[nearest] < 1.028 * (shortest + np.pi * clearance) + 0.3
    assert np.linalg.norm(start - goal) < 0.5 * distances[nearest]


def test_every_free_point_of_the_layouts_has_a_way() -> None:
    for text in LAYOUTS.values():
        maze = Maze(text)
        goal = maze.centres(maze.goal_cells)[-1]
        assert np.isfinite(shortest_paths(maze, 0.25, goal)).all()
