"""The studies that look into trained runs: what they find where the answer is known, and what they refuse."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial import KDTree

import kilolayer as kl
from kilolayer.cli.main import main
from kilolayer.envs.mazes.geodesic import free_points, shortest_paths
from kilolayer.errors import ConfigurationError
from kilolayer.report import StepsMap
from kilolayer.runs import RunDirectory
from kilolayer.studies import STUDIES, Case, Measured, Outcome, Scope, norms, representation, value_map
from kilolayer.studies.core.budgets import shallow_and_deep
from kilolayer.studies.core.results import data_tables
from kilolayer.studies.representation import chosen_way, principal_plane, spread_near_goal, ways
from kilolayer.training import Episodes, Setup, load_with_setup
from kilolayer.training.evaluation import Steps
from small_runs import small_config

CONFIG = small_config(depth=8, num_evals=3, diagnostics=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny run."""
    path = tmp_path_factory.mktemp("inside") / "run"
    kl.train(config=CONFIG, run_dir=path, progress=False)
    return Outcome(Case({"task": "point_u_maze", "depth": 8}, CONFIG), 0, RunDirectory(path))


@pytest.fixture(scope="module")
def task():
    return Setup.build(CONFIG).eval_environment.task


def with_others(outcome, measured):
    """Return it among others: two seeds at depth 8, one at depth 4, and one of a task that has no depth 4 yet."""
    own = dataclasses.replace(outcome, measured=measured)
    shallow = dataclasses.replace(own, case=Case({"task": "point_u_maze", "depth": 4}, CONFIG))
    other = dataclasses.replace(own, case=Case({"task": "another", "depth": 8}, CONFIG))
    return [shallow, own, dataclasses.replace(own, seed=1), other]


# ---- Grids -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["cpu", "gpu"])
def test_their_runs_are_those_of_the_study_of_depth(size):
    tasks = STUDIES["value_map"].tasks[size]  # mazes, which all can look into
    by_depth = {case.directory: case.labels for case in STUDIES["depth"].grid(size, tasks=tasks)}
    for name in ("value_map", "representation", "norms"):
        grid = {case.directory: case.labels for case in STUDIES[name].grid(size, tasks=tasks)}
        assert grid.items() <= by_depth.items()
        assert {labels["depth"] for labels in grid.values()} >= {4, 16}
    assert grid == by_depth  # norms, the last


def test_at_the_papers_size_they_are_those_that_it_shows():
    study = value_map.VALUE_MAP
    scope = Scope("paper", study.tasks["paper"], study.settings["paper"])
    depths = {(case.labels["task"], case.labels["depth"]) for case in shallow_and_deep(scope)}
    assert depths == {(task, depth) for task in ("ant_u4_maze", "ant_big_maze") for depth in (4, 64)}


@pytest.mark.parametrize(
    ("study", "arguments", "message"),
    [
        ("value_map", {"tasks": ("reacher",)}, "tasks='reacher' has no walls"),
        ("value_map", {"changes": {"agent": "gcbc"}}, "agent='gcbc' has no value to draw a map of"),
        (
            "representation",
            {"changes": {"agent": "sac"}},
            "agent='sac' has no embeddings .*; take agent=crl",
        ),
        ("representation", {"changes": {"crl": {"action_chunk": 3}}}, "crl.action_chunk=3 embeds several actions"),
        ("norms", {"changes": {"diagnostics": False}}, "diagnostics=False: this study sets diagnostics itself"),
        (
            "norms",
            {"changes": {"agent": "td3"}},
            "networks actor, .* and no phi, psi; take agent=crl",
        ),
    ],
)
def test_what_has_no_meaning_is_refused(study, arguments, message):
    with pytest.raises(ConfigurationError, match=message) as refused:
        STUDIES[study].grid("cpu", **arguments)
    assert "\n" not in str(refused.value)
    assert "take" in str(refused.value) or "leave" in str(refused.value)


def test_it_is_refused_before_anything_is_trained(tmp_path, capsys):
    assert main(["study", "value_map", "--envs", "reacher", "--run-dir", str(tmp_path / "runs")]) == 2
    assert "has no walls" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


# ---- value_map ---------------------------------------------------------------------------------------------


STEPS_PER_METRE = 2.0


def agent_by(measure):
    """Return a policy whose value is minus `measure(places, goal)`, and its setup."""

    def value(observations, goals):
        places = np.asarray(observations)[..., :2]
        return -measure(places.reshape(-1, 2), np.asarray(goals)[0, 0]).reshape(places.shape[:-1])

    return SimpleNamespace(value=value), Setup.build(CONFIG)


def drives_by(measure):
    """Return `steps_map` of an agent that needs two steps for each metre of `measure`, and gives up from 6 m on."""

    def steps_map(policy, environment, goals):
        task = environment.task
        points = free_points(task.maze, task.clearance)
        maps = []
        for goal in goals:
            distance = shortest_paths(task.maze, task.clearance, goal)
            away = measure(points, goal)
            steps = np.where(away < 6.0, STEPS_PER_METRE * away, np.inf)
            maps.append(StepsMap(goal, points, steps, distance))
        return maps

    return steps_map


def measured_by(monkeypatch, value, drive):
    monkeypatch.setattr(value_map, "load_with_setup", lambda path: agent_by(value))
    monkeypatch.setattr(value_map, "load_policy", lambda path, checkpoint: agent_by(value)[0])
    monkeypatch.setattr(value_map, "steps_map", drives_by(drive))
    outcome = Outcome(Case({"task": "point_u_maze", "depth": 8}, CONFIG), 0, RunDirectory("nowhere"))
    return outcome, value_map.measure(outcome)


def straight(places, goal):
    return np.linalg.norm(places - goal, axis=-1)


@pytest.fixture
def by_path(task):
    def measure(places, goal):
        _, nearest = KDTree(free_points(task.maze, task.clearance)).query(places)
        return shortest_paths(task.maze, task.clearance, goal)[nearest]

    return measure


def test_a_critic_that_knows_the_walls_orders_all_places(monkeypatch, task, by_path):
    scores = measured_by(monkeypatch, by_path, straight)[1].scores
    assert scores["rank_correlation"] > 0.95
    assert scores["euclidean_correlation"] == pytest.approx(value_map.straight_line_correlation(task), abs=0.05)
    assert scores["steps_correlation"] < 0.9


def test_a_critic_that_measures_straight_lines_does_not(monkeypatch, task, by_path):
    scores = measured_by(monkeypatch, straight, by_path)[1].scores
    assert scores["euclidean_correlation"] > 0.95
    assert scores["rank_correlation"] < 0.93
    assert scores["steps_correlation"] > 0.99
    assert 0.7 < scores["places_reached"] < 1.0


def test_maps_are_drawn_from_their_rows(monkeypatch, task, by_path):
    outcome, measured = measured_by(monkeypatch, straight, by_path)
    points = free_points(task.maze, task.clearance, per_cell=value_map.DRAWN_PER_CELL)
    starts = free_points(task.maze, task.clearance)
    assert len(measured.rows) == len(points) + len(starts)
    steps, values = value_map.maps_of(dataclasses.replace(outcome, measured=measured))
    np.testing.assert_allclose(values.points, points)
    cells = task.maze.centres(task.maze.free_cells)
    relative = np.mean([straight(points, cell) for cell in cells], axis=0) - straight(points, values.goal)
    np.testing.assert_allclose(values.value, relative, rtol=1e-4, atol=1e-5)
    away = by_path(starts, steps.goal)
    np.testing.assert_allclose(steps.steps, np.where(away < 6.0, STEPS_PER_METRE * away, np.inf))
    # Of the goals, the farthest from the start is at the other end of the U.
    assert tuple(np.round(values.goal / task.maze.cell_size)) == (3, 1)
    figure = value_map.draw(with_others(outcome, measured))
    # For each task the distance, and two maps for each of its depths; the other task has one depth only.
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.images]
    assert len(titles) == 2 * (1 + 2 * 2) - 2
    assert titles[0].startswith("point_u_maze: true distance")
    assert titles[1].startswith("depth 4: steps")
    assert "±" in titles[2]
    below = [title for title in titles if "critic" in title]
    assert len(below) == 3
    assert "correlation 0." in below[0]


# ---- representation ----------------------------------------------------------------------------------------


def test_points_on_a_line_lie_on_the_first_axis():
    along = np.array([0.0, 1.0, 3.0, 4.0])
    direction = np.array([2.0, 1.0, 2.0]) / 3.0
    points = 7.0 + along[:, None] * direction
    beside = points[:1] - 5.0 * direction
    (line, other), share = principal_plane(points, beside)
    np.testing.assert_allclose(line, np.stack([2.0 - along, np.zeros(4)], axis=-1), atol=1e-12)
    np.testing.assert_allclose(other, [[7.0, 0.0]], atol=1e-12)
    assert share == pytest.approx(1.0)


def test_the_plane_is_that_of_most_variance():
    rng = np.random.default_rng(0)
    axes, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    points = np.array([[3, 0, 0], [-3, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 1], [0, 0, -1.0]]) @ axes[:3]
    (found,), share = principal_plane(points)
    assert share == pytest.approx((9 + 4) / (9 + 4 + 1))
    np.testing.assert_allclose(np.abs(found[[0, 2, 4]]), [[3, 0], [0, 2], [0, 0]], atol=1e-12)
    assert (found[-1] >= -1e-12).all()


def test_one_point_has_a_plane_and_no_spread():
    (found,), share = principal_plane(np.ones((1, 4)))
    np.testing.assert_array_equal(found, [[0.0, 0.0]])
    assert share == 1.0
    assert spread_near_goal(np.ones((8, 4)), np.arange(8.0)) == 0.0
    assert np.isnan(spread_near_goal(np.eye(3), np.arange(3.0)))


def test_the_spread_near_the_goal_is_a_share():
    distance = np.arange(8.0, -1.0, -1.0)
    even = np.outer(distance, [0.6, 0.8])
    # Near are the distances 0, 1 and 2: their mean distance from 1 is 2/3, that of 0 ... 8 from 4 is 20/9.
    assert spread_near_goal(even, distance) == pytest.approx((2 / 3) / (20 / 9))
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((2, 2)))
    assert spread_near_goal(1e3 * even @ rotation + 5.0, distance) == pytest.approx(0.3)
    assert spread_near_goal(even, 40.0 + 0.1 * distance) == pytest.approx(0.3)
    assert spread_near_goal(np.outer(np.sqrt(distance), [0.6, 0.8]), distance) > 0.5


def episodes_along(paths, goals, success):
    """Return episodes from places (episodes x steps and one x 2): the place is seen, a running number done."""
    places = np.swapaxes(np.asarray(paths, float), 0, 1)
    length, count = places.shape[0] - 1, places.shape[1]
    goals = np.asarray(goals, float)
    numbers = np.arange(length * count, dtype=float).reshape(length, count, 1)
    return Episodes(
        desired_goal=goals,
        achieved_goal=places,
        success=np.asarray(success, bool).T,
        reward=np.zeros((length, count)),
        alive=np.ones((length, count), bool),
        begins_at_goal=np.zeros(count, bool),
        diverged=np.zeros(count, bool),
        finite=np.ones((), bool),
        steps=Steps(places[:-1], numbers, np.tile(goals, (length, 1, 1))),
    )


def test_the_way_is_that_of_the_farthest_start_that_got_there():
    flat = SimpleNamespace()  # no maze: distances are straight
    paths = [[[9, 0], [5, 0], [3, 0], [2, 0]], [[4, 0], [2, 0], [0, 0], [1, 0]], [[3, 0], [0, 0], [0, 0], [0, 0]]]
    found = chosen_way(ways(flat, episodes_along(paths, np.zeros((3, 2)), [[0, 0, 0], [0, 1, 0], [1, 1, 1]])))
    assert found.reached
    np.testing.assert_array_equal(found.observation, [[4, 0], [2, 0]])
    np.testing.assert_array_equal(found.action, [[1], [4]])
    np.testing.assert_array_equal(found.distance, [4, 2])
    missed = chosen_way(ways(flat, episodes_along(paths[:2], np.zeros((2, 2)), np.zeros((2, 3)))))
    assert not missed.reached
    np.testing.assert_array_equal(missed.distance, [4, 2, 0])


def test_distances_on_the_way_go_round_the_walls(task):
    start, goal = np.array([1.5, 1.5]), np.array([4.5, 1.5])
    (found,) = representation.distances(task, start[None], goal[None])
    assert found > 2.0 * np.linalg.norm(start - goal)
    # On straight legs to the corner's inner side no way is shorter than the maze's own.
    assert found <= 9.0


@pytest.mark.slow
def test_a_way_is_embedded_and_drawn(trained):
    measured = representation.measure(trained)
    *steps, star = measured.rows
    assert [row["step"] for row in steps] == list(range(len(steps)))
    assert star["embedding"] == "psi"
    assert star["pc1"] >= 0.0
    assert star["pc2"] >= 0.0
    assert {row["reached"] for row in measured.rows} <= {"yes", "no"}
    assert 0.0 <= measured.scores["spread_near_goal"] <= 2.0
    assert 1.0 <= measured.scores["effective_rank"] <= len(steps)
    assert 0.0 < measured.scores["variance_in_plane"] <= 1.0 + 1e-9
    policy, setup = load_with_setup(trained.run.path)
    way = chosen_way(representation.walk(policy, setup.eval_environment))
    own = policy.value(way.observation, np.tile(way.goal, (len(steps), 1)))
    np.testing.assert_allclose([row["value"] for row in steps], own, rtol=1e-4)
    np.testing.assert_array_equal([row["distance"] for row in steps], way.distance)
    outcomes = with_others(trained, measured)
    figure = representation.draw(outcomes)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    missed = "" if star["reached"] == "yes" else ", goal missed"
    assert titles[:2] == [f"point_u_maze, depth {depth}{missed}" for depth in (4, 8)]
    dots = figure.axes[1].collections[0].get_offsets()
    np.testing.assert_allclose(dots, [[row["pc1"], row["pc2"]] for row in steps])
    written = data_tables(STUDIES["representation"], outcomes)["measured.csv"]
    assert len(written) == len(outcomes) * len(measured.rows)
    assert written[0]["task"] == "point_u_maze"


# ---- norms -------------------------------------------------------------------------------------------------


def run_with(rows):
    return SimpleNamespace(diagnostics=lambda: rows)


def test_norms_are_means_of_the_last_evaluations():
    rows = [
        {
            f"{network}/{what}": [scale * value, 2.0 * value]
            for network in norms.NETWORKS
            for what, value in norm.items()
        }
        for scale, norm in [
            (99.0, {"stream_norm": 9.0, "residual_norm": 9.0, "gradient_norm": 9.0}),
            *[(1.0, {"stream_norm": 4.0, "residual_norm": float(n), "gradient_norm": 0.5}) for n in range(1, 6)],
        ]
    ]
    measured = norms.measure(SimpleNamespace(run=run_with(rows)))
    assert measured.scores == dict.fromkeys(norms.METRICS, 0.75)
    first, second = (row for row in measured.rows if row["network"] == "phi")
    assert first == {
        "network": "phi",
        "block": 1,
        "relative_depth": 0.25,
        "stream_norm": 4.0,
        "residual_norm": 3.0,
        "gradient_norm": 0.5,
        "residual_ratio": 0.75,
    }
    assert (second["block"], second["relative_depth"], second["stream_norm"]) == (2, 0.75, 8.0)


def test_a_network_without_blocks_has_no_norms():
    rows = [{f"{network}/{what}": [] for network in norms.NETWORKS for what in norms.NORMS_BY_BLOCK}]
    assert norms.measure(SimpleNamespace(run=run_with(rows))) == Measured({}, [])


@pytest.mark.slow
def test_norms_of_a_run_are_drawn_by_block(trained):
    measured = norms.measure(trained)
    assert [(row["network"], row["block"]) for row in measured.rows] == [
        (network, block) for network in norms.NETWORKS for block in (1, 2)
    ]
    seen = trained.run.diagnostics()
    assert 1 < len(seen) <= norms.LAST
    assert measured.rows[0]["stream_norm"] == pytest.approx(np.mean([row["actor/stream_norm"][0] for row in seen]))
    figure = norms.draw(with_others(trained, measured))
    for axes in figure.axes:
        low, high = axes.get_ylim()
        assert all(low <= value <= high for line in axes.lines for value in line.get_ydata())
    assert len(figure.axes) == 2 * 2 * len(norms.NETWORKS)
    ratios = figure.axes[1]
    thick = [line for line in ratios.lines if line.get_label() == "depth 8"]
    np.testing.assert_allclose(thick[0].get_xdata(), [0.25, 0.75])
    np.testing.assert_allclose(
        thick[0].get_ydata(), [row["residual_ratio"] for row in measured.rows if row["network"] == "phi"]
    )
    assert figure.axes[len(norms.NETWORKS)].get_yscale() == "log"
