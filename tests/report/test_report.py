"""The report: pictures that are there, numbers that are right, one page that needs nothing beside it."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import kilolayer as kl
from kilolayer.envs import LAYOUTS, Maze
from kilolayer.envs.mazes.geodesic import free_points, shortest_paths
from kilolayer.errors import ConfigurationError
from kilolayer.report import value_map, write_report
from kilolayer.report.maze import ValueMap, chosen_goals
from kilolayer.training import load_with_setup
from small_runs import SMALL

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "run"
    kl.train(
        "point_u_maze",
        run_dir=path,
        progress=False,
        width=16,
        batch_size=16,
        num_envs=4,
        episode_length=20,
        unroll_length=10,
        gradient_steps_per_unroll=2,
        replay_capacity=60,
        min_replay=20,
        total_env_steps=160,
        num_evals=2,
        num_eval_envs=4,
    )
    return path


def test_the_page_holds_its_pictures_and_needs_nothing_else(run):
    path = write_report(run)
    text = path.read_text()
    assert path == run / "report.html"
    assert len(re.findall(r'src="data:image/png;base64,[A-Za-z0-9+/=]{1000,}"', text)) == 3
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert "success_any" in text
    assert "rank correlation" in text
    for name in ("learning", "paths", "values", "overview"):
        assert (run / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_rank_correlation_is_spearmans(run):
    policy, setup = load_with_setup(run)
    environment = setup.eval_environment
    goal = chosen_goals(environment.task.maze)[0]
    values = value_map(policy, environment, goal)
    assert values.points.shape == (values.value.size, 2) == (values.distance.size, 2)
    expected = scipy.stats.spearmanr(values.value, -values.distance).statistic
    assert values.rank_correlation == pytest.approx(expected)
    observations = np.array(
        [environment.task.observations_at(jnp.asarray(point)) for point in values.points[:3].astype(np.float32)]
    )
    by_hand = [policy.value(each, [goal] * len(each)).mean() for each in observations]
    np.testing.assert_allclose(values.value[:3], by_hand, rtol=1e-5)
    right = ValueMap(goal, values.points, -values.distance, values.distance)
    assert right.rank_correlation == pytest.approx(1.0)


def test_goals_are_chosen_from_far_to_near():
    maze = Maze(LAYOUTS["big"])
    goals = chosen_goals(maze)
    lengths = maze.path_lengths(maze.start_cells)
    cells = np.round(goals / maze.cell_size).astype(int)
    found = [lengths[tuple(cell)] for cell in cells]
    assert found == sorted(found, reverse=True)
    assert found[0] == 11


def test_distances_in_the_open_are_straight_lines():
    room = Maze("\n".join(["#" * 9, "#R......#", *["#.......#"] * 5, "#......G#", "#" * 9]), cell_size=1.0)
    goal = np.array([4.0, 4.0])
    points = free_points(room, 0.25)
    straight = np.linalg.norm(points - goal, axis=-1)
    found = shortest_paths(room, 0.25, goal)
    assert (found >= straight - 0.08).all()  # the goal lies up to half a grid diagonal beside a grid point
    assert (found <= 1.03 * straight + 0.08).all()


def test_distances_go_round_corners():
    maze = Maze(LAYOUTS["u"], cell_size=2.0)
    points = free_points(maze, 0.25, per_cell=21)
    goal = np.array([6.0, 2.0])
    found = shortest_paths(maze, 0.25, goal, per_cell=21)
    start = np.argmin(np.linalg.norm(points - [2.0, 2.0], axis=-1))
    # The wall between has its end at (3..5, 5). A string round it: from start and goal straight to where they touch the
    # circles about its two corners, along these, and 2 m straight between them.
    reach = np.hypot(1.0, 3.0)
    leg = np.sqrt(reach**2 - 0.25**2)
    turn = np.arctan2(3.0, 1.0) + np.pi / 2 - np.arccos(0.25 / reach)
    exact = 2 * leg + 2 * 0.25 * turn + 2.0
    assert exact <= found[start] <= 1.04 * exact
    assert np.isfinite(found).all()


def test_points_keep_clear_of_walls():
    maze = Maze(LAYOUTS["hardest"])
    points = free_points(maze, 0.3)
    for centre in maze.centres(np.argwhere(maze.walls)):
        outside = np.maximum(np.abs(points - centre) - maze.cell_size / 2, 0.0)
        assert (np.linalg.norm(outside, axis=-1) >= 0.3).all()


@pytest.mark.slow
def test_an_agent_without_a_value_gets_no_map_of_it(tmp_path):
    kl.train("point_u_maze", agent="gcbc", run_dir=tmp_path / "run", progress=False, **SMALL | {"total_env_steps": 120})
    text = write_report(tmp_path / "run").read_text()
    assert len(re.findall(r'src="data:image/png;base64,', text)) == 2
    assert "critic" not in text.split("How it was made")[0]
    pictures = {path.stem for path in (tmp_path / "run" / "figures").iterdir()}
    assert pictures == {"learning", "paths", "overview"}
    with pytest.raises(ConfigurationError, match="GCBC has no value"):
        kl.load(tmp_path / "run").value([0.0] * 4, [0.0] * 2)
