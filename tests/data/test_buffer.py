import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from replay_model import RingModel, empty_like, encoded_trajectory

from kilolayer.data import ReplayBuffer, end_episodes, insert

NUM_ENVS = 3
insert_jitted = eqx.filter_jit(insert)


def check_against(buffer: ReplayBuffer, rings: list[RingModel]) -> None:
    """Every step the deques hold lies in its row, with the end of its episode."""
    capacity = buffer.capacity
    size = len(rings[0].steps)
    assert int(buffer.size) == size
    assert int(buffer.num_steps) == rings[0].time
    last_time = np.asarray(buffer.last_time)
    for environment, ring in enumerate(rings):
        times = np.array([step.time for step in ring.steps])
        rows = times % capacity
        here = np.full(size, environment)
        np.testing.assert_array_equal(
            np.asarray(buffer.observation)[rows, environment], np.stack([times, here, np.ones(size)], axis=-1)
        )
        np.testing.assert_array_equal(
            np.asarray(buffer.achieved_goal)[rows, environment], np.stack([-times - 1, here + 100], axis=-1)
        )
        np.testing.assert_array_equal(
            np.asarray(buffer.desired_goal)[rows, environment], np.stack([times + 0.5, -here], axis=-1)
        )
        np.testing.assert_array_equal(
            np.asarray(buffer.action)[rows, environment], np.stack([here + 0.5, times + 0.25], axis=-1)
        )
        np.testing.assert_array_equal(
            np.asarray(buffer.terminated)[rows, environment], [step.done and step.time % 2 == 0 for step in ring.steps]
        )
        episode = np.asarray(buffer.episode)[rows, environment]
        np.testing.assert_array_equal(episode, [step.episode for step in ring.steps])
        np.testing.assert_array_equal(last_time[episode % capacity, environment], list(ring.last_times().values()))
        assert int(buffer.open_episode[environment]) == ring.episode


def check_inserts(capacity: int, lengths: list[int], done: np.ndarray) -> None:
    buffer = empty_like(capacity, NUM_ENVS)
    rings = [RingModel(capacity) for _ in range(NUM_ENVS)]
    time = 0
    for length in lengths:
        chunk = done[time : time + length]
        buffer = insert_jitted(buffer, encoded_trajectory(chunk, time))
        for ring, column in zip(rings, chunk.T, strict=True):
            for step_done in column:
                ring.append(bool(step_done))
        time += length
        check_against(buffer, rings)


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, list[int], np.ndarray]:
    """A capacity, lengths of chunks that go round it several times, and when episodes end."""
    capacity = draw(st.sampled_from([1, 5, 6, 12]))
    fitting = [length for length in (1, 2, 3, 5, 6, 12) if length <= capacity]
    if draw(st.booleans()):
        lengths = draw(st.lists(st.sampled_from(fitting), min_size=1, max_size=16))
    else:
        lengths = [draw(st.sampled_from(fitting))] * draw(st.integers(1, 24))
    shape = (sum(lengths), NUM_ENVS)
    every = draw(st.integers(1, 2 * capacity))
    done = draw(
        st.one_of(
            hnp.arrays(np.bool_, shape, elements=st.booleans(), fill=st.nothing()),
            hnp.arrays(np.bool_, shape),
            st.just(np.add.outer(np.arange(shape[0]), np.arange(NUM_ENVS)) % every == 0),
        )
    )
    return capacity, lengths, done


@settings(derandomize=True, deadline=None, max_examples=60)
@given(histories())
@example((6, [3] * 20, np.ones((60, NUM_ENVS), bool)))
@example((6, [3] * 20, np.zeros((60, NUM_ENVS), bool)))
@example((5, [3] * 30, np.arange(90)[:, None] % np.array([1, 2, 7]) == 0))
@example((12, [5, 12, 1, 6, 12, 3], np.arange(39)[:, None] % np.array([2, 5, 13]) == 1))
def test_ring_matches_a_deque(history: tuple[int, list[int], np.ndarray]) -> None:
    check_inserts(*history)


def test_rings_of_one_step_hold_the_last_step() -> None:
    done = np.array([[True, False, False]] * 4 + [[False, True, False]] * 4)
    check_inserts(1, [1] * 8, done)


def test_episode_ends_are_right_after_a_thousand_wraps() -> None:
    capacity, length, chunks = 5, 3, 1700
    done = np.random.default_rng(0).random((length * chunks, NUM_ENVS)) < np.array([0.05, 0.5, 1.0])
    buffer = empty_like(capacity, NUM_ENVS)
    rings = [RingModel(capacity) for _ in range(NUM_ENVS)]
    for chunk in range(chunks):
        part = done[chunk * length : (chunk + 1) * length]
        buffer = insert_jitted(buffer, encoded_trajectory(part, chunk * length))
        for ring, column in zip(rings, part.T, strict=True):
            for step_done in column:
                ring.append(bool(step_done))
        if chunk % 100 == 99:
            check_against(buffer, rings)
    assert int(buffer.num_steps) > 1000 * capacity


def test_insert_leaves_the_given_buffer_as_it_was() -> None:
    before = empty_like(4, NUM_ENVS)
    after = insert(before, encoded_trajectory(np.zeros((4, NUM_ENVS), bool)))
    assert int(before.num_steps) == 0
    assert not before.observation.any()
    assert int(after.num_steps) == 4


def test_a_partly_filled_ring_has_the_size_of_what_was_inserted() -> None:
    buffer = empty_like(7, NUM_ENVS)
    assert (buffer.capacity, buffer.num_envs, int(buffer.size)) == (7, NUM_ENVS, 0)
    for expected in (3, 6, 7, 7):
        buffer = insert_jitted(buffer, encoded_trajectory(np.zeros((3, NUM_ENVS), bool)))
        assert int(buffer.size) == expected


def test_a_trajectory_longer_than_the_ring_is_refused() -> None:
    with pytest.raises(ValueError, match="trajectory of 5 steps does not fit a ring of 4"):
        insert(empty_like(4, NUM_ENVS), encoded_trajectory(np.zeros((5, NUM_ENVS), bool)))


def test_an_episode_continues_from_one_chunk_to_the_next() -> None:
    buffer = empty_like(8, 1)
    done = np.zeros((8, 1), bool)
    done[5] = True
    for start in (0, 4):
        buffer = insert(buffer, encoded_trajectory(done[start : start + 4], start))
    ends = buffer.last_time[buffer.episode[:, 0], 0]
    np.testing.assert_array_equal(ends, jnp.array([5] * 6 + [7] * 2))


def test_an_episode_that_was_interrupted_ends_with_its_last_step() -> None:
    nothing_ends = np.zeros((3, NUM_ENVS), bool)
    buffer = insert_jitted(empty_like(7, NUM_ENVS), encoded_trajectory(nothing_ends))
    buffer = end_episodes(buffer, jnp.array([True, False, True]))
    buffer = insert_jitted(buffer, encoded_trajectory(nothing_ends, 3))
    ends = jnp.take_along_axis(buffer.last_time, buffer.episode, axis=0)[:6]
    np.testing.assert_array_equal(ends, [[2, 5, 2]] * 3 + [[5, 5, 5]] * 3)
