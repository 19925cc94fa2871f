"""Windows of consecutive steps: what they hold, where they begin, and how much of one episode a batch holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from replay_model import empty_like, encoded_trajectory

from kilolayer.data import ReplaySettings, draw_windows, insert, sample_times
from kilolayer.data.hindsight import episode_ends, episode_starts
from kilolayer.errors import ConfigurationError

CAPACITY, NUM_ENVS, LENGTH = 12, 3, 5


def ring(num_steps, every=4):
    """A ring after so many steps, whose episodes end every few steps."""
    done = np.add.outer(np.arange(num_steps), np.arange(NUM_ENVS)) % every == 0
    buffer = empty_like(CAPACITY, NUM_ENVS)
    for time in range(0, num_steps, 6):
        buffer = insert(buffer, encoded_trajectory(done[time : time + 6], time))
    return buffer, done


@pytest.mark.parametrize("num_steps", [6, 12, 30, 42])
@pytest.mark.parametrize("every", [*(pytest.param(each, marks=pytest.mark.slow) for each in (1, 100)), 4])
def test_a_window_holds_consecutive_steps_of_one_environment(num_steps, every):
    buffer, done = ring(num_steps, every)
    first_times = set()
    for seed in range(40):
        windows = draw_windows(buffer, LENGTH, jax.random.key(seed))
        assert (windows.capacity, windows.num_envs, int(windows.size)) == (LENGTH, NUM_ENVS, LENGTH)
        for environment in range(NUM_ENVS):
            times = np.asarray(windows.observation[:, environment, 0]).astype(int)
            first_times.add(int(times[0]))
            np.testing.assert_array_equal(times, times[0] + np.arange(LENGTH))
            np.testing.assert_array_equal(windows.observation[:, environment, 1], environment)
            np.testing.assert_array_equal(windows.achieved_goal[:, environment, 0], -times - 1)
            np.testing.assert_array_equal(windows.action[:, environment, 1], times + 0.25)
            ends = done[times, environment]
            # The last time of the episode, in the window.
            last = [next((n for n in range(place, LENGTH) if ends[n]), LENGTH - 1) for place in range(LENGTH)]
            places = jnp.arange(LENGTH)
            np.testing.assert_array_equal(episode_ends(windows, jnp.full(LENGTH, environment), places), last)
            begins = [next((n + 1 for n in range(place - 1, -1, -1) if ends[n]), 0) for place in range(LENGTH)]
            np.testing.assert_array_equal(episode_starts(windows, jnp.full(LENGTH, environment), places), begins)
    held = min(num_steps, CAPACITY)
    assert first_times == set(range(num_steps - held, num_steps - LENGTH + 1))


def test_a_window_longer_than_the_ring_is_refused():
    with pytest.raises(ValueError, match="does not fit a ring of 12"):
        draw_windows(ring(12)[0], 13, jax.random.key(0))
    with pytest.raises(ConfigurationError, match="windows=0 must be at least 1"):
        ReplaySettings(windows=0)


def same_episode(buffer, batch_size, keys):
    """Return how many other rows of a batch are of a row's own episode, on average."""
    counts = []
    for key in keys:
        environment, time, _ = sample_times(buffer, (batch_size,), 0.99, key)
        episode = np.asarray(buffer.episode)[np.asarray(time) % buffer.capacity, np.asarray(environment)]
        rows = np.asarray(environment) * 1_000_000 + episode
        counts.append((rows[:, None] == rows).sum() / batch_size - 1)
    return np.mean(counts)


@pytest.mark.slow
def test_batches_hold_as_many_negatives_of_their_own_episode_as_published():
    """A window straddles two episodes: the squares of its parts add up to 2/3 on average, by integration."""
    num_envs, length, capacity = 64, 50, 500
    done = np.zeros((capacity, num_envs), bool)
    done[length - 1 :: length] = True
    buffer = insert(empty_like(capacity, num_envs), encoded_trajectory(done))
    others = (64 - 1) / num_envs
    keys = jax.random.split(jax.random.key(0), (100, 2, 2))
    from_windows = np.mean([same_episode(draw_windows(buffer, length, own[0, 0]), 64, own[:, 1]) for own in keys])
    assert from_windows == pytest.approx(2 / 3 * others, abs=0.05)
    assert same_episode(buffer, 64, keys.reshape(-1)) == pytest.approx(0.1 * others, abs=0.02)
