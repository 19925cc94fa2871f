"""The report: its pictures exist, its numbers are correct, and the page needs no other file."""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.spatial import KDTree

import kilolayer as kl
from kilolayer.envs import LAYOUTS, Maze
from kilolayer.envs.mazes.geodesic import free_points, shortest_paths
from kilolayer.errors import ConfigurationError
from kilolayer.report import StepsMap, ValueMap, steps_map, value_map, write_report
from kilolayer.report.floor import ValueFloor, value_floor
from kilolayer.report.maze import draw_field
from kilolayer.report.steps_to_goal import can_start_anywhere, starting_at
from kilolayer.report.style import new_figure
from kilolayer.report.values import chosen_goals
from kilolayer.training import load_with_setup
from small_runs import SMALL


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
    for name in ("learning", "paths", "maps", "overview"):
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
    maze = environment.task.maze
    cells = maze.centres(maze.free_cells)
    of_cells = np.array([[policy.value(each, [cell] * 8).mean() for each in observations] for cell in cells])
    by_hand = [policy.value(each, [goal] * 8).mean() for each in observations] - of_cells.mean(axis=0)
    np.testing.assert_allclose(values.value[:3], by_hand, rtol=1e-4, atol=1e-5)
    right = ValueMap(goal, values.points, -values.distance, values.distance)
    assert right.rank_correlation == pytest.approx(1.0)


def straight_to_the_goal(policy_environment, *, forwards=True):
    """Return a policy that pushes the disc along the shortest path to the goal, or away from it.

    It looks up which of the places around leads nearer, and brakes what speed it has across the way.
    """
    task = policy_environment.task
    points = free_points(task.maze, task.clearance)

    class Agent:
        executed_actions = 1

        def act(self, ways, observation, desired_goal, key, mode="deterministic"):
            del desired_goal, key, mode
            position, velocity = observation[..., :2], observation[..., 2:]
            away = jnp.linalg.norm(points - position[..., None, :], axis=-1)
            around = jnp.where((away < 0.5) & (away > 0.2), ways, jnp.inf)
            target = jnp.asarray(points)[jnp.argmin(around, axis=-1)]
            push = (target - position) * (1.0 if forwards else -1.0)
            return jnp.clip(4.0 * push - 0.8 * velocity, -1.0, 1.0)

    return Agent()


def policy_to(environment, goal, **options):
    ways = shortest_paths(environment.task.maze, environment.task.clearance, goal)
    return SimpleNamespace(agent=straight_to_the_goal(environment, **options), agent_state=jnp.asarray(ways))


def test_an_agent_on_the_shortest_path_has_a_map_like_the_distance():
    environment = kl.make_env("point_u_maze")
    goal = chosen_goals(environment.task.maze)[0]
    (found,) = steps_map(policy_to(environment, goal), environment, goal[None], per_cell=5)
    assert found.reached == 1.0
    assert found.rank_correlation > 0.97
    assert found.steps[found.distance.argmax()] == found.steps.max()
    (lost,) = steps_map(policy_to(environment, goal, forwards=False), environment, goal[None], per_cell=5)
    assert lost.reached < 0.3
    assert lost.rank_correlation < 0.8


def test_each_goal_has_its_own_map():
    environment = kl.make_env("point_u_maze")
    goals = chosen_goals(environment.task.maze)[:2]
    first, second = steps_map(policy_to(environment, goals[0]), environment, goals, per_cell=5)
    # The agent goes to the first goal whatever it is asked for, and stays there.
    assert first.reached == 1.0
    assert second.reached < 1.0
    assert first.steps[np.linalg.norm(first.points - goals[0], axis=-1).argmin()] == 1.0


def test_places_that_never_arrive_rank_last():
    points = np.array([[1.5, 1.5], [1.5, 3.0], [3.0, 4.5], [4.5, 1.5]])
    steps = np.array([np.inf, 20.0, 10.0, 1.0])
    found = StepsMap(points[-1], points, steps, np.array([8.0, 6.0, 3.0, 0.0]))
    assert found.rank_correlation == pytest.approx(1.0)
    assert found.reached == 0.75
    assert StepsMap(points[-1], points, np.full(4, np.inf), np.arange(4.0)).rank_correlation == 0.0


@pytest.mark.parametrize(
    "name",
    [
        "point_u_maze_gen_1f2f3f",
        "humanoid_u_maze",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("point_u_maze", "ant_u_maze")),
    ],
)
def test_episodes_begin_at_the_places(name):
    environment = kl.make_env(name)
    assert can_start_anywhere(environment)
    maze = environment.task.maze
    places = maze.centres(maze.free_cells)
    goals = np.broadcast_to(maze.centres(maze.goal_cells)[-1], places.shape)
    state = starting_at(environment, places, goals).reset(jax.random.key(3), len(places))
    np.testing.assert_allclose(state.achieved_goal[:, :2], places, atol=1e-5)
    np.testing.assert_allclose(state.desired_goal[:, :2], goals, atol=1e-5)
    drawn = environment.reset(jax.random.key(0), 1).desired_goal
    rest = np.broadcast_to(drawn[:, 2:], state.desired_goal[:, 2:].shape)
    np.testing.assert_allclose(state.desired_goal[:, 2:], rest)


@pytest.mark.slow
def test_a_start_is_one_that_the_task_draws_for_the_goal():
    environment = kl.make_env("humanoid_u_maze", variant="paper")
    maze = environment.task.maze
    goals = maze.centres(maze.goal_cells)
    starts = np.broadcast_to(maze.centres(maze.free_cells)[0], goals.shape)
    state = starting_at(environment, starts, goals).reset(jax.random.key(0), len(goals))
    # The paper's humanoid has the goal among its joints.
    np.testing.assert_allclose(np.asarray(state.physics.qpos)[:, -2:], goals, atol=1e-5)


def test_a_field_fills_the_free_cells():
    maze = Maze(LAYOUTS["u"])
    points = maze.centres(maze.free_cells)
    axes = new_figure(4.0, 4.0).subplots()
    image = draw_field(axes, maze, points, np.array([np.inf, *range(1, len(points))]), points[-1], "a title")
    # The first cell is infinite: it is in the overlay, not in the image.
    assert image.get_array().count() == (len(points) - 1) * 40**2
    assert (axes.images[0].get_array()[..., 3] > 0).sum() == 40**2
    half = 0.65 * maze.cell_size
    assert axes.get_xlim() == pytest.approx((1.5 - half, 4.5 + half))
    assert axes.get_ylim() == pytest.approx((4.5 + half, 1.5 - half))


class ExactCritic:
    """A policy whose value is minus the true distance, plus a function of the state and a function of the goal."""

    def __init__(self, environment, of_state, of_goal):
        self.task, self.of_state, self.of_goal = environment.task, of_state, of_goal

    def value(self, observation, desired_goal):
        observation, goal = np.asarray(observation), np.asarray(desired_goal)[0, 0]
        tree = KDTree(free_points(self.task.maze, self.task.clearance))
        distance = shortest_paths(self.task.maze, self.task.clearance, goal)[tree.query(observation[..., :2])[1]]
        return -distance + self.of_state(observation) + self.of_goal(goal)


def test_the_map_does_not_depend_on_functions_of_the_state_alone():
    environment = kl.make_env("point_u_maze")
    exact = ExactCritic(environment, lambda observation: 0.0, lambda goal: 0.0)
    offset = ExactCritic(
        environment,
        lambda observation: 5.0 * np.sin(3.0 * observation[..., 0]) + observation[..., 2] ** 2 - observation[..., 1],
        lambda goal: np.cos(goal[0]),
    )
    for goal in chosen_goals(environment.task.maze):
        expected = value_map(exact, environment, goal, per_cell=5)
        found = value_map(offset, environment, goal, per_cell=5)
        assert expected.rank_correlation > 0.93
        assert found.rank_correlation == pytest.approx(expected.rank_correlation, abs=1e-3)
        # The offset alone spoils the order.
        raw = expected.value + offset.of_state(np.pad(expected.points, ((0, 0), (0, 2))))
        assert scipy.stats.spearmanr(raw, -expected.distance).statistic < 0.8
    farthest = value_map(offset, environment, chosen_goals(environment.task.maze)[0], per_cell=5)
    assert farthest.rank_correlation > 0.99


def test_the_floor_of_a_live_view_has_the_values_of_the_map():
    environment = kl.make_env("point_u_maze")
    critic = ExactCritic(environment, lambda observation: 0.0, lambda goal: 0.0)
    floor, maze = ValueFloor(critic, environment), environment.task.maze
    for goal in chosen_goals(maze)[:2]:
        grid = floor(goal)
        pixels = grid.shape[0] // maze.walls.shape[0]
        cells = grid.reshape(maze.walls.shape[0], pixels, maze.walls.shape[1], pixels)
        np.testing.assert_array_equal(np.isnan(cells).all(axis=(1, 3)), maze.walls)
        found = value_map(critic, environment, goal, per_cell=5)
        rows, columns = np.floor((found.points / maze.cell_size + 0.5) * pixels).astype(int).T
        np.testing.assert_allclose(grid[rows, columns], found.value)


def test_a_floor_needs_walls_and_a_critic():
    critic, blind = (SimpleNamespace(agent=SimpleNamespace(has_value=has_value)) for has_value in (True, False))
    assert value_floor(critic, kl.make_env("point_u_maze")) is not None
    assert value_floor(blind, kl.make_env("point_u_maze")) is None
    assert value_floor(critic, kl.make_env("reacher")) is None


def test_a_map_of_values_knows_the_height_of_goals():
    environment = kl.make_env("humanoid_u_maze")
    goals = []

    def value(observation, desired_goal):
        goals.append(np.asarray(desired_goal)[0, 0])
        return np.zeros(observation.shape[:2])

    goal = chosen_goals(environment.task.maze)[0]
    value_map(SimpleNamespace(value=value), environment, goal, per_cell=2)
    _, drawn = environment.task.reset(jax.random.key(1))
    np.testing.assert_allclose(goals[-1], [*goal, drawn[2]])


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
    assert len(re.findall(r'src="data:image/png;base64,', text)) == 3
    assert "critic" not in text.split("<h2>Settings</h2>")[0]
    pictures = {path.stem for path in (tmp_path / "run" / "figures").iterdir()}
    assert pictures == {"learning", "paths", "maps", "overview"}
    with pytest.raises(ConfigurationError, match="GCBC has no value"):
        kl.load(tmp_path / "run").value([0.0] * 4, [0.0] * 2)
