"""Point mazes with actions to choose among."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.envs import LAYOUTS, Maze, make
from kilolayer.envs.check import _random_action, check
from kilolayer.envs.tasks import DiscretePointMaze, PointMaze

TASK = DiscretePointMaze(Maze(LAYOUTS["u"]), force=3.0)


def test_the_choices_are_no_force_and_eight_directions() -> None:
    forces = np.asarray(jax.vmap(TASK.control)(jnp.eye(9)))
    np.testing.assert_array_equal(forces[0], [0.0, 0.0])
    angles = np.degrees(np.arctan2(forces[1:, 1], forces[1:, 0])) % 360.0
    np.testing.assert_allclose(angles, 45.0 * np.arange(8), atol=1e-4)
    np.testing.assert_array_equal(np.abs(forces[1:]).max(axis=1), [3.0] * 8)


def test_the_largest_entry_is_the_choice() -> None:
    rng = np.random.default_rng(0)
    for numbers in rng.uniform(-1.0, 1.0, (20, 9)).astype(np.float32):
        chosen = jax.nn.one_hot(int(numbers.argmax()), 9)
        np.testing.assert_array_equal(TASK.control(jnp.asarray(numbers)), TASK.control(chosen))


def test_a_choice_moves_the_disc_as_the_same_continuous_action_does() -> None:
    discrete, continuous = make("point_u_maze_discrete"), make("point_u_maze")
    assert isinstance(continuous.task, PointMaze)
    assert (discrete.action_size, discrete.discrete_actions) == (9, True)
    key = jax.random.key(0)
    choices = jax.nn.one_hot(jnp.arange(9), 9)
    pushes = jax.vmap(discrete.task.control)(choices) / continuous.task.force
    _, one = discrete.step(discrete.reset(key, 9), choices)
    _, other = continuous.step(continuous.reset(key, 9), pushes)
    np.testing.assert_allclose(one.observation, other.observation, atol=1e-6)
    assert len(np.unique(np.asarray(one.observation)[:, 2:], axis=0)) == 9


@pytest.mark.parametrize("moving", [False, True])
def test_random_actions_of_the_check_are_one_hot(moving: bool) -> None:
    actions = np.asarray(_random_action(make("point_u_maze_discrete"), 500, jax.random.key(0), jnp.asarray(moving)))
    np.testing.assert_array_equal(np.sort(actions, axis=1), [[0.0] * 8 + [1.0]] * 500)
    assert set(actions.argmax(axis=1)) == (set(range(9)) if moving else {0})


def test_the_check_finds_nothing_wrong() -> None:
    environment = make("point_u_maze_discrete", episode_length=30)
    found = {finding.name: finding for finding in check(environment, num_envs=16, num_steps=60)}
    assert "the first action" in found
    assert not [finding for finding in found.values() if finding.verdict == "failed"]
