"""The study of stitching: success by distance along the corridor, long ones apart from those trained on."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.envs import LAYOUTS, Maze
from kilolayer.envs.mazes.corridor import Corridor
from kilolayer.errors import ConfigurationError
from kilolayer.studies import STUDIES, run_study, write_results
from kilolayer.studies.core.results import data_tables
from kilolayer.studies.core.study import Measured
from kilolayer.studies.stitching import EPISODES, STITCHING, by_distance, scores_of
from kilolayer.training import Episodes, Setup
from small_runs import SMALL

TASK = "point_u_maze_gen_1f2f3f"
CHANGES = {**{name: value for name, value in SMALL.items() if name != "depth"}, "total_env_steps": 160, "num_evals": 1}
CORRIDOR = Corridor(Maze(LAYOUTS["u"]), (1, 2, 3))


def fabricated(pairs, steps_at_goal, length=5):
    """Episodes between cells of the corridor, each with so many steps at its goal."""
    centres = CORRIDOR.maze.centres(CORRIDOR.path).astype(np.float32)
    first, last = np.transpose(pairs)
    success = np.arange(length)[:, None] < np.asarray(steps_at_goal)
    ones = np.ones((length, len(pairs)))
    achieved = np.broadcast_to(centres[first] + 0.4, (length + 1, len(pairs), 2))
    return Episodes(
        desired_goal=jnp.asarray(centres[last]),
        achieved_goal=jnp.asarray(achieved),
        success=jnp.asarray(success),
        reward=jnp.asarray(ones, jnp.float32),
        alive=jnp.asarray(ones, bool),
        begins_at_goal=jnp.zeros(len(pairs), bool),
        diverged=jnp.zeros(len(pairs), bool),
        finite=jnp.asarray(True),
    )


def test_the_grid_has_every_corridor_at_every_depth_and_builds():
    for size, depths in (("cpu", [4, 16]), ("gpu", [4, 16, 64]), ("paper", [4, 16, 64])):
        cases = STITCHING.grid(size)
        assert len({case.name for case in cases}) == len(cases)
        for task in STITCHING.tasks[size]:
            assert [case.labels["depth"] for case in cases if case.labels["task"] == task] == depths
        for case in cases:
            if case.labels["depth"] == 4:
                setup = Setup.build(case.config)
                assert setup.environment.task.corridor.distances == (1, 2, 3)
                assert case.config.eval_env not in (None, case.config.env)


@pytest.mark.parametrize(
    ("task", "line"),
    [
        ("point_u_maze", "task 'point_u_maze' is not a corridor with short pairs.*such as point_u_maze_gen_1f2f3f"),
        ("reacher", "task 'reacher' is not a corridor"),
        ("point_u_maze_gen_1f6f", "trains on pairs 6 cells apart already"),
        ("point_u_maze_gen_7f", "7 must be from 1 to 6"),
    ],
)
def test_other_tasks_are_refused(task, line):
    with pytest.raises(ConfigurationError, match=line):
        STITCHING.grid("cpu", tasks=[task])


def test_episodes_count_for_the_distance_along_the_corridor():
    # 0 to 6 are the ends of the u, side by side but for the wall.
    pairs = [(0, 1), (5, 6), (0, 2), (0, 3), (3, 6), (0, 4), (1, 5), (0, 6)]
    rows = by_distance(CORRIDOR, fabricated(pairs, [3, 0, 2, 1, 1, 0, 5, 4]))
    assert [row["distance"] for row in rows] == [1, 2, 3, 4, 6]  # no episode went 5 cells
    assert [row["trained_on"] for row in rows] == ["yes", "yes", "yes", "no", "no"]
    assert [row["episodes"] for row in rows] == [2, 1, 2, 2, 1]
    assert [row["success_any"] for row in rows] == [0.5, 1.0, 1.0, 0.5, 1.0]
    assert [row["time_at_goal"] for row in rows] == [1.5, 2.0, 1.0, 2.5, 4.0]


def test_scores_weigh_distances_alike():
    pairs, steps = [(0, 1), (1, 2), (2, 3), (0, 2), (0, 4), (1, 5), (0, 6)], [1, 1, 0, 0, 0, 0, 4]
    scores = scores_of(by_distance(CORRIDOR, fabricated(pairs, steps)))
    assert scores == {"success_short": pytest.approx(1 / 3), "success_long": 0.5, "time_at_goal_long": 2.0}


def test_distances_left_out_of_training_are_not_long():
    corridor = dataclasses.replace(CORRIDOR, distances=(1, 3))
    rows = by_distance(corridor, fabricated([(0, 1), (0, 2), (0, 3), (0, 4)], [1, 0, 1, 0]))
    assert [row["trained_on"] for row in rows] == ["yes", "no", "yes", "no"]
    assert scores_of(rows) == {"success_short": 1.0, "success_long": 0.0, "time_at_goal_long": 0.0}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What a tiny run of two seeds came to."""
    directory = tmp_path_factory.mktemp("stitching")
    (case,) = [one for one in STITCHING.grid("cpu", tasks=[TASK], changes=CHANGES) if one.labels["depth"] == 4]
    (found,) = run_study(STITCHING, [case], (0, 1), directory)
    return found


@pytest.mark.slow
def test_a_trained_run_is_tried_on_every_distance(outcomes):
    assert STUDIES["stitching"] is STITCHING
    for one in outcomes:
        rows = one.measured.rows
        assert [row["distance"] for row in rows] == [1, 2, 3, 4, 5, 6]
        assert sum(row["episodes"] for row in rows) == 6 * EPISODES
        assert all(0.6 * EPISODES < row["episodes"] < 1.4 * EPISODES for row in rows)
        assert one.measured.scores == scores_of(rows)
    assert outcomes[0].measured.rows != outcomes[1].measured.rows
    assert STITCHING.measure(outcomes[0]) == outcomes[0].measured


@pytest.mark.slow
def test_the_figure_has_a_bar_for_every_distance_and_depth(outcomes, tmp_path):
    rows = [dict(row, success_any=1.0 if row["distance"] < 4 else 0.25) for row in outcomes[0].measured.rows]
    deep = [
        dataclasses.replace(
            one,
            case=dataclasses.replace(one.case, labels={"task": TASK, "depth": 16}),
            measured=Measured(scores_of(rows), rows),
        )
        for one in outcomes
    ]
    figure = STITCHING.draw([*outcomes, *deep])
    (axes,) = figure.axes
    (shallow, tall) = axes.containers
    assert len(shallow) == len(tall) == 6
    assert [bar.get_height() for bar in tall] == [1.0, 1.0, 1.0, 0.25, 0.25, 0.25]
    middles = [[bar.get_x() + bar.get_width() / 2 for bar in bars] for bars in (shallow, tall)]
    np.testing.assert_allclose(np.mean(middles, axis=0), range(1, 7))
    assert min(np.subtract(*reversed(middles))) > 0.3
    path = write_results(STITCHING, [*outcomes, *deep], tmp_path)
    assert path.stat().st_size > 10_000
    measured = data_tables(STITCHING, deep)["measured.csv"]
    assert measured[3] == {"task": TASK, "depth": 16, "seed": 0, **rows[3]}
