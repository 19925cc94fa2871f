"""Corridors: pairs of start and goal are exactly as far apart as asked, along the way and not through walls."""

import jax
import numpy as np
import pytest

from kilolayer.envs import LAYOUTS, Maze, make, names, spec
from kilolayer.envs.catalog import CORRIDORS
from kilolayer.envs.mazes.corridor import Corridor
from kilolayer.envs.tasks import PointCorridor
from kilolayer.errors import ConfigurationError
from kilolayer.runs import default_config
from kilolayer.training import Setup

LENGTHS = {"u": 6, "u2": 8, "u3": 10, "u4": 10, "u5": 16, "u6": 14, "u7": 12}


def corridor(layout="u", distances=(1,)):
    return Corridor(Maze(LAYOUTS[layout]), distances)


def drawn_by(function, count, seed=0):
    """Call a function of a key many times."""
    return jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(seed), count))


def cells_of(maze, places):
    """Return row and column of the cells that places lie in."""
    return np.rint(np.asarray(places) / maze.cell_size).astype(int)


@pytest.mark.parametrize(("layout", "length"), LENGTHS.items())
def test_corridors_are_as_long_as_the_papers(layout, length):
    path = corridor(layout).path
    assert len(path) == length + 1 == corridor(layout).length + 1
    np.testing.assert_array_equal(path[0], Maze(LAYOUTS[layout]).start_cells[0])
    np.testing.assert_array_equal(np.abs(np.diff(path, axis=0)).sum(axis=-1), 1)


def test_all_named_layouts_are_corridors():
    assert set(CORRIDORS) == set(LENGTHS)
    for robot in ("point", "ant"):
        assert {f"{robot}_{layout}_maze_gen_1f2f3f" for layout in CORRIDORS} <= set(names())


@pytest.mark.parametrize("distances", [(1, 2, 3), (4, 5, 6), (6,)])
def test_pairs_are_one_of_the_distances_apart_along_the_corridor(distances):
    task = PointCorridor(Maze(LAYOUTS["u"]), distances=distances)
    start, goal = drawn_by(task.reset, 4_000)
    index = {tuple(cell): number for number, cell in enumerate(task.corridor.path.tolist())}
    first = [index[tuple(cell)] for cell in cells_of(task.maze, start.position).tolist()]
    last = [index[tuple(cell)] for cell in cells_of(task.maze, goal).tolist()]
    ahead = np.subtract(last, first)
    assert set(ahead) == set(distances)
    np.testing.assert_array_equal(task.corridor.distances_between(np.asarray(start.position), np.asarray(goal)), ahead)
    np.testing.assert_array_equal(goal, task.maze.centres(cells_of(task.maze, goal)))


def test_distances_and_the_cells_of_each_are_uniform():
    """Each distance k is as likely as any other, and each of its 7 - k pairs as any other of them."""
    task, number = PointCorridor(Maze(LAYOUTS["u"]), distances=(1, 2, 3)), 60_000
    start, goal = drawn_by(task.reset, number)
    ends = np.concatenate([cells_of(task.maze, start.position), cells_of(task.maze, goal)], axis=1)
    pairs, counts = np.unique(ends, axis=0, return_counts=True)
    assert len(pairs) == 6 + 5 + 4
    centres = task.maze.centres
    distances = task.corridor.distances_between(centres(pairs[:, :2]), centres(pairs[:, 2:]))
    expected = number / (3.0 * (7 - distances))
    assert expected.sum() == pytest.approx(number)
    assert np.sum((counts - expected) ** 2 / expected) < 36.1  # its 99.9th percentile with 14 degrees of freedom


def test_distances_go_round_walls():
    """Ends of the u maze are two cells apart through the wall, and six along the corridor."""
    maze = corridor().maze
    ends = maze.centres(np.array([(1, 1), (3, 1), (1, 1)]))
    np.testing.assert_array_equal(corridor().distances_between(ends[:2], ends[1:]), [6, -6])


def test_starts_lie_around_the_centres_as_in_point_mazes():
    task = PointCorridor(Maze(LAYOUTS["u4"]), distances=(5,))
    start, _ = drawn_by(task.reset, 2_000)
    offset = np.asarray(start.position) - task.maze.centres(cells_of(task.maze, start.position))
    assert 0.49 < np.abs(offset).max() <= task.start_noise
    assert np.abs(offset.mean(axis=0)).max() < 0.03
    assert np.asarray(start.velocity).std() == pytest.approx(task.start_speed, rel=0.1)


@pytest.mark.parametrize(
    ("trained", "evaluated"),
    [
        ("u_maze_gen_1f2f3f", "u_maze_gen_4f5f6f"),
        ("u4_maze_gen_1f2f3f", "u4_maze_gen_4f5f6f"),
        ("u4_maze_gen_2f4f", "u4_maze_gen_5f6f7f8f"),
        ("u_maze_gen_4f", "u_maze_gen_5f6f"),
        ("u_maze_gen_6f", None),
    ],
)
def test_evaluation_is_on_longer_pairs_of_the_same_corridor(trained, evaluated):
    entry = spec(f"point_{trained}")
    assert entry.eval_env == (evaluated and f"point_{evaluated}")
    setup = Setup.build(default_config(entry.name))
    train, test = setup.environment.task, setup.eval_environment.task
    np.testing.assert_array_equal(train.maze.walls, test.maze.walls)
    assert train.maze.cell_size == test.maze.cell_size
    if evaluated:
        assert max(train.distances) < min(test.distances)


def test_ants_are_evaluated_on_the_papers_cells():
    assert spec("ant_u_maze_gen_1f2f3f").eval_env == "ant_u_maze_eval"


def test_the_disc_moves_among_the_walls_of_the_corridor():
    environment = make("point_u4_maze_gen_1f2f3f")
    assert environment.engine.maze is environment.task.maze
    np.testing.assert_array_equal(environment.task.maze.walls, make("point_u4_maze").task.maze.walls)


@pytest.mark.parametrize(
    ("distances", "line"),
    [
        ((), r"distances is empty; it needs at least one number from 1 to 6 \(cells\)"),
        ((1, 7), r"distances=\[1, 7\]: 7 must be from 1 to 6, the corridor's length in cells"),
        ((0,), r"distances=\[0\]: 0 must be from 1 to 6"),
        ((2, 3, 2), r"distances=\[2, 3, 2\]: 2 is listed twice"),
    ],
)
def test_invalid_distances_are_refused(distances, line):
    with pytest.raises(ConfigurationError, match=line):
        PointCorridor(Maze(LAYOUTS["u"]), distances=distances)
    with pytest.raises(ConfigurationError, match=line):
        corridor("u", distances)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (LAYOUTS["big"], "because of this cell the maze is not a single corridor that begins at 'R'"),
        ("#####\n#GRG#\n#####", "maze line 2, column 4: because of this cell the maze is not a single corridor"),
        ("######\n#RG#.#\n######", "maze line 2, column 5: because of this cell"),
        ("####\n#RG#\n#GG#\n####", "maze line 3, column 2: because of this cell"),
        ("######\n#RG.R#\n######", "the maze has 2 starts; a corridor has a single 'R' at one end"),
    ],
)
def test_mazes_that_are_no_corridor_are_refused(text, line):
    with pytest.raises(ConfigurationError, match=line):
        PointCorridor(Maze(text), distances=(1,))


def test_names_of_corridors_that_are_none_are_unknown():
    for name in ("point_big_maze_gen_1f2f3f", "point_u_maze_gen_", "point_u_maze_gen_12", "arm_u_maze_gen_1f"):
        with pytest.raises(ConfigurationError, match="is unknown"):
            spec(name)
    with pytest.raises(ConfigurationError, match="7 must be from 1 to 6"):
        make("point_u_maze_gen_7f")
