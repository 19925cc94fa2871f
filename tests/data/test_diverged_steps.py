"""Steps in which a robot diverged: no sampler draws them, and all others are as likely as each other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from replay_model import empty_like, encoded_trajectory
from scipy import stats

from kilolayer.data import ReplayBuffer, draw_windows, insert, sample_hindsight, sample_times, sample_transitions

CAPACITY, NUM_ENVS, EPISODE = 60, 2, 6
NUM_DRAWS = 20_000


def some_diverged(length: int = 80) -> ReplayBuffer:
    """Return a full ring with episodes of six steps. In environment 1 every second one diverges at its end."""
    time = np.arange(length)
    done = np.stack([time % EPISODE == EPISODE - 1] * NUM_ENVS, axis=1)
    diverged = done & (np.arange(NUM_ENVS) == 1) & (time % (2 * EPISODE) == EPISODE - 1)[:, None]
    trajectory = encoded_trajectory(done)
    trajectory = dataclasses.replace(
        trajectory,
        terminated=trajectory.terminated & ~jnp.asarray(diverged),
        diverged=jnp.asarray(diverged),
    )
    buffer = empty_like(CAPACITY, NUM_ENVS)
    for first in range(0, length, 20):
        buffer = insert(buffer, jax.tree.map(lambda leaf: leaf[first : first + 20], trajectory))  # noqa: B023
    return buffer


def usable(buffer: ReplayBuffer) -> np.ndarray:
    """Whether each step of the ring may be drawn: environment, age from the oldest on."""
    rows = np.arange(int(buffer.num_steps) - CAPACITY, int(buffer.num_steps)) % CAPACITY
    return ~np.asarray(buffer.diverged)[rows].T


def counts(buffer: ReplayBuffer, repeats: int) -> np.ndarray:
    """How often each step is drawn."""
    draw = jax.jit(lambda key: sample_times(buffer, (NUM_DRAWS,), 0.9, key, repeats=repeats))
    environment, time, goal_time = (np.asarray(drawn) for drawn in draw(jax.random.key(3)))
    assert (goal_time >= time).all()
    assert (goal_time // EPISODE == time // EPISODE).all()
    age = time - (int(buffer.num_steps) - CAPACITY)
    return np.bincount(environment * CAPACITY + age, minlength=NUM_ENVS * CAPACITY).reshape(NUM_ENVS, CAPACITY)


def test_no_draw_is_such_a_step_and_all_others_are_equally_likely():
    buffer = some_diverged()
    drawn, may = counts(buffer, 1), usable(buffer)
    assert 0 < (~may).sum() < 8
    assert drawn[~may].sum() == 0
    assert stats.chisquare(drawn[may]).pvalue > 1e-3


def test_groups_of_one_episode_leave_them_out_too():
    buffer = some_diverged()
    drawn, may = counts(buffer, 4), usable(buffer)
    assert drawn[~may].sum() == 0
    assert (drawn[may] > 0).all()


@pytest.mark.parametrize("sample", [sample_hindsight, sample_transitions])
def test_batches_and_transitions_hold_none(sample):
    buffer = some_diverged()
    setting = {"discount": 0.9} if sample is sample_hindsight else {"relabeled": 0.5}
    batch = jax.jit(lambda key: sample(buffer, (NUM_DRAWS,), key=key, **setting))(jax.random.key(1))
    time, environment = np.asarray(batch.observation)[:, 0], np.asarray(batch.observation)[:, 1]
    assert not ((environment == 1) & (time % (2 * EPISODE) == EPISODE - 1)).any()


def test_windows_carry_them_along():
    buffer = some_diverged()
    window = draw_windows(buffer, 20, jax.random.key(0))
    time = np.asarray(window.observation)[..., 0]
    expected = (np.arange(NUM_ENVS) == 1) & (time % (2 * EPISODE) == EPISODE - 1)
    np.testing.assert_array_equal(window.diverged, expected)
    assert expected.any()


def test_the_goal_of_an_earlier_step_may_be_the_state_before():
    """That state was reached; only what follows it is unknown."""
    buffer = some_diverged()
    environment, time, goal_time = jax.jit(lambda key: sample_times(buffer, (NUM_DRAWS,), 0.9, key))(jax.random.key(2))
    row = np.asarray(goal_time) % CAPACITY
    assert np.asarray(buffer.diverged)[row, np.asarray(environment)].any()
    assert (np.asarray(time) < np.asarray(goal_time)).any()
