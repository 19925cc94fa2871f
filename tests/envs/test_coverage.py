"""How far random actions get."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.cli.main import main
from kilolayer.envs import make, registry
from kilolayer.envs.coverage import coverage_of, explore, recorded, recorded_of
from kilolayer.envs.robot_task import VARIANTS


class Task:
    """What coverage needs of a task."""

    success_distance = 0.5
    goal_size = 2
    goal_names = ("ball x (m)", "ball y (m)")

    def success(self, achieved_goal, desired_goal):
        return jnp.linalg.norm(achieved_goal - desired_goal) < self.success_distance


def places(*along):
    """Return goals at given numbers along x, for one episode each."""
    return np.stack([np.array(along), np.zeros_like(along)], axis=-1).swapaxes(0, 1)


def test_distances_are_those_of_first_episodes(no_type_checks):
    achieved = places([0.1, 3.0, 9.0], [0.2, 0.4, 0.3], [1.0, 1.0, 2.0])
    ends = np.array([[False, False, False], [True, False, False], [False, True, True]])
    found = coverage_of(Task(), np.zeros((3, 2)), achieved, ends)
    # The first ends with its second step, at 3; what follows is another episode.
    assert (found.median, found.farthest) == (2.0, 3.0)
    assert found.moved == pytest.approx(2 / 3)
    assert found.lived == pytest.approx((2 + 3 + 3) / 3)
    assert found.ninety == pytest.approx(np.quantile([3.0, 0.4, 2.0], 0.9))
    assert str(found).startswith("the achieved goal gets 2 m away from its start (median; 90 %: 2.8, largest 3)")


def test_without_names_there_is_no_unit(no_type_checks):
    class Nameless(Task):
        goal_names = None

    found = coverage_of(Nameless(), np.zeros((1, 2)), places([1.0]), np.ones((1, 1), bool))
    assert found.unit == ""
    assert "gets 1 away" in str(found)


def test_held_actions_carry_a_disc_farther():
    environment = make("point_u_maze")
    assert explore(environment, held=10).median > explore(environment).median > 0.0


def test_what_is_recorded_names_forms_that_exist():
    assert {row["env"] for row in recorded()} <= set(registry.names())
    assert all(row["variant"] in VARIANTS for row in recorded())
    (variant, engine, coverage), *_ = recorded_of("ant")
    assert (variant, engine) == ("default", "mujoco")
    assert 1.0 < coverage.median < coverage.ninety < coverage.farthest
    assert recorded_of("no such task") == []


def test_the_command_measures_every_variant(tmp_path, capsys):
    path = tmp_path / "table.csv"
    command = ["envs", "explore", "point_u_maze", "--episodes=4", f"--output={path}"]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("point_u_maze, default, point: the achieved goal gets ")
    header, row = path.read_text().splitlines()
    assert header == "env,variant,engine,median,ninety,farthest,moved,lived,unit"
    assert row.startswith("point_u_maze,default,point,")
    assert main([*command[:4], "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert jnp.isfinite(found["median"])


def test_a_command_without_a_task_is_one_line(capsys):
    assert main(["envs", "explore"]) == 2
    assert capsys.readouterr().err == (
        "kilolayer: error: ENV is missing: kilolayer envs explore ENV...; `kilolayer envs` lists them\n"
    )


def test_show_says_how_far_random_actions_get(capsys):
    assert main(["envs", "show", "ant", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["random_actions"]
    assert {(row["variant"], row["engine"]) for row in found} == {("default", "mujoco"), ("paper", "spring")}
