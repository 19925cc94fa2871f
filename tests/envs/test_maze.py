from typing import NamedTuple

import numpy as np
import pytest

from kilolayer.envs import LAYOUTS, Maze
from kilolayer.errors import ConfigurationError


class Facts(NamedTuple):
    """What is known of a layout, path lengths in cells from the start."""

    grid: tuple[int, int]
    walls: int
    start: tuple[int, int]
    goals: int
    mean: float
    longest: int
    eval_goals: int
    eval_shortest: int
    eval_longest: int


FACTS = {
    "u": Facts((5, 5), 18, (1, 1), 6, 3.5, 6, 3, 4, 6),
    "u2": Facts((5, 6), 21, (1, 1), 8, 4.5, 8, 4, 5, 8),
    "u3": Facts((5, 7), 24, (1, 1), 10, 5.5, 10, 5, 6, 10),
    "u4": Facts((7, 5), 24, (2, 1), 10, 5.5, 10, 4, 7, 10),
    "u5": Facts((7, 8), 39, (2, 1), 16, 8.5, 16, 8, 9, 16),
    "u6": Facts((7, 7), 34, (2, 1), 14, 7.5, 14, 7, 8, 14),
    "u7": Facts((7, 6), 29, (2, 1), 12, 6.5, 12, 6, 7, 12),
    "big": Facts((8, 8), 38, (1, 1), 25, 6.4, 11, 9, 8, 11),
    "hardest": Facts((9, 12), 62, (1, 1), 45, 9.1, 15, 0, 0, 0),
}


def goal_path_lengths(maze: Maze) -> np.ndarray:
    return maze.path_lengths(maze.start_cells)[tuple(maze.goal_cells.T)]


def test_every_layout_is_in_the_table() -> None:
    evals = {f"{name}_eval" for name, facts in FACTS.items() if facts.eval_goals}
    assert set(LAYOUTS) == set(FACTS) | evals


@pytest.mark.parametrize("name", FACTS)
def test_training_layout_is_the_papers(name: str) -> None:
    facts, maze = FACTS[name], Maze(LAYOUTS[name])
    lengths = goal_path_lengths(maze)
    assert maze.walls.shape == facts.grid
    assert maze.walls.sum() == facts.walls
    assert maze.start_cells.tolist() == [list(facts.start)]
    assert len(maze.goal_cells) == facts.goals
    assert lengths.mean() == pytest.approx(facts.mean, abs=0.05)
    assert lengths.max() == facts.longest
    assert lengths.min() == 1
    assert len(maze.free_cells) == maze.walls.size - facts.walls == facts.goals + 1


@pytest.mark.parametrize("name", [name for name, facts in FACTS.items() if facts.eval_goals])
def test_eval_layout_is_the_papers_and_has_the_training_walls(name: str) -> None:
    facts, maze, training = FACTS[name], Maze(LAYOUTS[f"{name}_eval"]), Maze(LAYOUTS[name])
    lengths = goal_path_lengths(maze)
    np.testing.assert_array_equal(maze.walls, training.walls)
    np.testing.assert_array_equal(maze.start_cells, training.start_cells)
    assert {tuple(cell) for cell in maze.goal_cells} < {tuple(cell) for cell in training.goal_cells}
    assert len(maze.goal_cells) == facts.eval_goals
    assert (lengths.min(), lengths.max()) == (facts.eval_shortest, facts.eval_longest)


def test_mean_path_to_the_far_goals_of_big_is_the_papers() -> None:
    assert goal_path_lengths(Maze(LAYOUTS["big_eval"])).mean() == pytest.approx(8.9, abs=0.05)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", ["maze is empty", "'#' walls, an 'R' start and 'G' goals"], id="empty"),
        pytest.param("\n \n\n", ["maze is empty"], id="blank"),
        pytest.param("#####\n#RG#\n#####", ["line 2 has 4 cells", "line 1 has 5", "have the same length"], id="ragged"),
        pytest.param("#####\n#R.G#\n\n#####", ["line 3 has 0 cells", "line 1 has 5"], id="gap"),
        pytest.param(
            "####\n#RG#\n#.x#\n####",
            ["line 3, column 3", "'x'", "use '#', 'R', 'G', '.' or space"],
            id="unknown",
        ),
        pytest.param("####\n#RG#\n#..#\n##.#", ["line 4, column 3", "border must consist of '#'"], id="open below"),
        pytest.param("####\nRG.#\n####", ["line 2, column 1", "border must consist of '#'"], id="open on the left"),
        pytest.param("####\n#.G#\n####", ["no start", "at least one cell with 'R'"], id="no start"),
        pytest.param("####\n#R.#\n####", ["no goal", "at least one cell with 'G'"], id="no goal"),
        pytest.param(
            "#####\n#RG##\n###G#\n#####",
            ["line 3, column 4", "there is no path from a start to this goal"],
            id="cut off",
        ),
    ],
)
def test_a_bad_maze_is_refused_in_one_line_that_says_where_and_what_is_right(text: str, said: list[str]) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Maze(text)
    message = str(refusal.value)
    assert "\n" not in message
    for part in said:
        assert part in message


def test_spaces_and_dots_are_free_and_line_ends_do_not_matter() -> None:
    plain = Maze("#####\n#R.G#\n#####")
    for text in ("#####\n#R G#\n#####\n\n", "\n\n#####\r\n#R.G#\r\n#####\r\n"):
        maze = Maze(text)
        np.testing.assert_array_equal(maze.walls, plain.walls)
        np.testing.assert_array_equal(maze.goal_cells, plain.goal_cells)
        np.testing.assert_array_equal(maze.start_cells, plain.start_cells)


@pytest.mark.parametrize("cell_size", [1.0, 1.5, 4.0])
def test_row_grows_along_x_and_column_along_y(cell_size: float) -> None:
    maze = Maze("######\n#R...#\n#...G#\n######", cell_size=cell_size)
    assert maze.goal_cells.tolist() == [[2, 4]]
    np.testing.assert_array_equal(maze.centres(maze.goal_cells), [[2 * cell_size, 4 * cell_size]])
    cells = np.argwhere(np.ones((4, 6), bool))
    np.testing.assert_array_equal(maze.centres(cells), cells * cell_size)


def test_path_lengths_go_round_walls_and_take_the_nearest_source() -> None:
    maze = Maze("#######\n#R#..##\n#.#.###\n#...#R#\n##G##.#\n#######")
    lengths = maze.path_lengths(maze.start_cells)
    expected = [
        [-1, -1, -1, -1, -1, -1, -1],
        [-1, 0, -1, 6, 7, -1, -1],
        [-1, 1, -1, 5, -1, -1, -1],
        [-1, 2, 3, 4, -1, 0, -1],
        [-1, -1, 4, -1, -1, 1, -1],
        [-1, -1, -1, -1, -1, -1, -1],
    ]
    np.testing.assert_array_equal(lengths, expected)
    np.testing.assert_array_equal(maze.path_lengths(maze.start_cells[:1])[:, 5], -1)


def test_a_goal_needs_one_of_several_starts_only() -> None:
    maze = Maze("#####\n#R#R#\n#G###\n#####")
    assert goal_path_lengths(maze).tolist() == [1]
