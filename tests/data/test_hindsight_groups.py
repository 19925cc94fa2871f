"""Pairs of one episode, and actions of several steps: what is drawn, by enumeration over many histories."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from replay_model import discounted, empty_like, encoded_trajectory, joint_distribution, p_value, rings_after
from scipy import stats

from kilolayer.data import Batch, ReplayBuffer, insert, sample_hindsight, sample_times

CAPACITY, NUM_ENVS, CHUNK = 8, 2, 3
REPEATS = 4
NUM_DRAWS = 16_000


def histories() -> list[np.ndarray]:
    """When steps end episodes: rings partly filled, full and wrapped, with episodes of one step up to longer ones than
    the ring.
    """
    rng = np.random.default_rng(0)
    found = []
    for length in (1, 3, 8, 9, 17, 30):
        step, environment = np.arange(length)[:, None], np.arange(NUM_ENVS)
        found += [
            np.zeros((length, NUM_ENVS), bool),
            np.ones((length, NUM_ENVS), bool),
            np.broadcast_to(environment == 1, (length, NUM_ENVS)),
            (step + 2 * environment) % 5 == 3,
            *(rng.random((length, NUM_ENVS)) < chance for chance in (0.15, 0.5)),
        ]
    return found


@eqx.filter_jit
def extended(buffer: ReplayBuffer, done: jax.Array, time: jax.Array) -> ReplayBuffer:
    """Insert a step of `encoded_trajectory`, whatever its time."""
    step = jax.tree.map(jnp.asarray, encoded_trajectory(np.zeros((1, NUM_ENVS), bool)))
    environments = jnp.arange(NUM_ENVS, dtype=jnp.float32)
    times = jnp.broadcast_to(time, (NUM_ENVS,)).astype(jnp.float32)
    step = eqx.tree_at(
        lambda t: (t.observation, t.achieved_goal, t.action, t.done),
        step,
        (
            jnp.stack([times, environments, jnp.ones(NUM_ENVS)], axis=-1)[None],
            jnp.stack([-times - 1, environments + 100], axis=-1)[None],
            jnp.stack([environments + 0.5, times + 0.25], axis=-1)[None],
            done[None],
        ),
    )
    return insert(buffer, step)


@cache
def family() -> tuple[ReplayBuffer, list[np.ndarray]]:
    """Buffers along one leading axis, and the history of each."""
    buffers = []
    for done in histories():
        buffer = empty_like(CAPACITY, NUM_ENVS)
        for time, row in enumerate(done):
            buffer = extended(buffer, jnp.asarray(row), jnp.asarray(time))
        buffers.append(buffer)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *buffers), histories()


@cache
def draws(repeats: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Environment, time and goal time, by history, group and place in the group."""
    buffers, done = family()

    @eqx.filter_jit
    @eqx.filter_vmap
    def draw(buffer: ReplayBuffer, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return sample_times(buffer, (NUM_DRAWS,), 0.9, key, repeats=repeats)

    drawn = draw(buffers, jax.random.split(jax.random.key(5), len(done)))
    environment, time, goal_time = (np.asarray(each).reshape(len(done), -1, repeats) for each in drawn)
    return environment, time, goal_time


def episodes(done: np.ndarray) -> list[dict[int, list[int]]]:
    """For each environment the times that are held, by episode."""
    found: list[dict[int, list[int]]] = []
    for ring in rings_after(done, CAPACITY):
        by_episode: dict[int, list[int]] = {}
        for step in ring.steps:
            by_episode.setdefault(step.episode, []).append(step.time)
        found.append(by_episode)
    return found


def test_a_group_is_of_one_episode() -> None:
    for done, environment, time, goal_time in zip(family()[1], *draws(REPEATS), strict=True):
        assert (environment == environment[:, :1]).all()
        for number, held in enumerate(episodes(done)):
            of_time = {time: episode for episode, times in held.items() for time in times}
            mine = environment[:, 0] == number
            groups = np.vectorize(of_time.get, otypes=[float])(time[mine])
            assert (groups == groups[:, :1]).all()  # a time that is not held would be NaN
            np.testing.assert_array_equal(np.vectorize(of_time.get, otypes=[float])(goal_time[mine]), groups)


@pytest.mark.parametrize("place", range(REPEATS))
def test_every_place_in_a_group_has_the_distribution_of_a_draw_without_groups(place: int) -> None:
    """Environments, times and goals: also those of the first place, which is no more than the others."""
    p_values = []
    for done, environment, time, goal_time in zip(family()[1], *draws(REPEATS), strict=True):
        oldest = max(len(done) - CAPACITY, 0)
        counts = np.zeros((NUM_ENVS, CAPACITY, CAPACITY), int)
        drawn = environment[:, place], time[:, place] - oldest, goal_time[:, place] - time[:, place]
        np.add.at(counts, drawn, 1)
        p_values.append(p_value(counts, joint_distribution(done, CAPACITY, discounted(0.9))))
    assert min(p_values) > 1e-3 / len(p_values)
    assert stats.kstest([p for p in p_values if p < 1.0], "uniform").pvalue > 1e-3


def test_places_of_a_group_are_drawn_each_for_itself() -> None:
    """Two places together: an episode as likely as it is long, and every pair of its steps as likely as any other."""
    p_values = []
    for done, environment, time, _ in zip(family()[1], *draws(REPEATS), strict=True):
        oldest = max(len(done) - CAPACITY, 0)
        counts = np.zeros((NUM_ENVS, CAPACITY, CAPACITY), int)
        np.add.at(counts, (environment[:, 0], time[:, 1] - oldest, time[:, 3] - oldest), 1)
        expected = np.zeros(counts.shape)
        for number, held in enumerate(episodes(done)):
            for times in held.values():
                rows = np.array(times) - oldest
                expected[number][np.ix_(rows, rows)] = 1.0 / len(rows)
        p_values.append(p_value(counts, expected / expected.sum()))
    assert min(p_values) > 1e-3 / len(p_values)


def test_goals_of_a_group_are_drawn_each_for_itself() -> None:
    _, time, goal_time = draws(REPEATS)
    longest = [number for number, done in enumerate(family()[1]) if len(done) > CAPACITY and not done.any()]
    for number in longest:
        same_time = time[number, :, 0] == time[number, :, 1]
        assert 0.05 < same_time.mean() < 0.2
        early = same_time & (time[number, :, 0] - time[number].min() < 4)
        assert (goal_time[number, early, 0] != goal_time[number, early, 1]).mean() > 0.5


def test_without_repeats_nothing_is_drawn_differently() -> None:
    buffer = jax.tree.map(lambda leaf: leaf[-1], family()[0])
    key = jax.random.key(3)
    for one, other in zip(
        sample_times(buffer, (64,), 0.9, key), sample_times(buffer, (64,), 0.9, key, repeats=1), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_groups_lie_side_by_side_on_the_last_axis() -> None:
    buffer = jax.tree.map(lambda leaf: leaf[-1], family()[0])
    batch = sample_hindsight(buffer, (3, 8), 0.9, jax.random.key(0), repeats=4)
    environment = np.asarray(batch.observation)[..., 1].reshape(3, 2, 4)
    assert (environment == environment[..., :1]).all()
    assert batch.desired_goal.shape == (3, 8, 2)


@eqx.filter_jit
@eqx.filter_vmap(in_axes=(eqx.if_array(0), None))
def chunked_batch(buffer: ReplayBuffer, key: jax.Array) -> Batch:
    return sample_hindsight(buffer, (2000,), 0.9, key, action_chunk=CHUNK)


def test_chunks_hold_what_was_done_next_and_zeros_behind_the_episode_and_the_newest_step() -> None:
    buffers, done = family()
    batches = chunked_batch(buffers, jax.random.key(1))
    cut = 0
    for number, history in enumerate(done):
        observation, chunk = np.asarray(batches.observation[number]), np.asarray(batches.action[number])
        assert chunk.shape == (2000, CHUNK * 2)
        time, environment = observation[:, 0].astype(int), observation[:, 1].astype(int)
        last = np.full((len(history), NUM_ENVS), -1)
        for column, ring in enumerate(rings_after(history, CAPACITY)):
            for held, end in ring.last_times().items():
                last[held, column] = end
        for ahead in range(CHUNK):
            taken = time + ahead <= last[time, environment]
            expected = np.stack([environment + 0.5, time + ahead + 0.25], axis=-1)
            np.testing.assert_array_equal(
                chunk[:, 2 * ahead : 2 * ahead + 2], np.where(taken[:, None], expected, 0.0), strict=False
            )
            cut += int((~taken).sum())
        # All actions of the last place of the chunk were taken, and so were those before it.
        np.testing.assert_array_equal(batches.valid[number], taken)
    assert cut > 10_000


def test_one_action_is_always_of_its_episode() -> None:
    buffer = jax.tree.map(lambda leaf: leaf[-1], family()[0])
    assert sample_hindsight(buffer, (8,), 0.9, jax.random.key(0)).valid is None


def test_a_chunk_changes_neither_observations_nor_goals() -> None:
    buffer = jax.tree.map(lambda leaf: leaf[-1], family()[0])
    plain, chunked = (
        sample_hindsight(buffer, (64,), 0.9, jax.random.key(2), action_chunk=length) for length in (1, CHUNK)
    )
    np.testing.assert_array_equal(plain.observation, chunked.observation)
    np.testing.assert_array_equal(plain.desired_goal, chunked.desired_goal)
    np.testing.assert_array_equal(plain.action, chunked.action[:, :2])


def test_groups_and_chunks_go_together() -> None:
    buffer = jax.tree.map(lambda leaf: leaf[-1], family()[0])
    batch = sample_hindsight(buffer, (64,), 0.9, jax.random.key(2), action_chunk=CHUNK, repeats=REPEATS)
    time, environment = np.asarray(batch.observation)[:, :2].T
    np.testing.assert_array_equal(np.asarray(batch.action)[:, :2], np.stack([environment + 0.5, time + 0.25], axis=-1))
    assert (environment.reshape(-1, REPEATS) == environment[::REPEATS, None]).all()
