"""Labels of first arrivals, against a search step by step through episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.data import Draw, Trajectory, empty_buffer, insert, prepare_arrivals, sample_arrivals

NUM_ENVS, CAPACITY, RADIUS = 3, 40, 1.0


def success(achieved, goal):
    return jnp.linalg.norm(achieved - goal) <= RADIUS


def walked(num_steps=70, seed=0):
    """Return a buffer of random walks whose ring has wrapped, and all that was inserted, by time."""
    keys = jax.random.split(jax.random.key(seed), 3)
    place = jnp.cumsum(0.7 * jax.random.normal(keys[0], (num_steps, NUM_ENVS, 2)), axis=0)
    done = jax.random.uniform(keys[1], (num_steps, NUM_ENVS)) < 0.08
    terminated = done & (jax.random.uniform(keys[2], (num_steps, NUM_ENVS)) < 0.5)
    time = jnp.broadcast_to(jnp.arange(num_steps, dtype=jnp.float32)[:, None], (num_steps, NUM_ENVS))
    environment = jnp.broadcast_to(jnp.arange(NUM_ENVS, dtype=jnp.float32), (num_steps, NUM_ENVS))
    steps = Trajectory(
        observation=jnp.stack([time, environment], axis=-1),  # a row says where it is from
        achieved_goal=place,
        desired_goal=jnp.zeros_like(place),
        action=time[..., None],
        terminated=terminated,
        done=done,
        diverged=jnp.zeros_like(done),
    )
    buffer = empty_buffer(CAPACITY, NUM_ENVS, 2, 2, 1)
    for start in range(0, num_steps, 35):
        buffer = insert(buffer, jax.tree.map(lambda x, start=start: x[start : start + 35], steps))
    return buffer, jax.tree.map(np.asarray, steps)


def drawn(draw, rows=2000, seed=1):
    buffer, steps = walked()
    sample = jax.jit(lambda key: sample_arrivals(prepare_arrivals(buffer, draw), rows, draw, key))
    return jax.tree.map(np.asarray, sample(jax.random.key(seed))), steps


def draw_of(**settings):
    base = {"success": success, "horizon": 12, "discount": 0.9, "own_goals": 0.05, "random_goals": 0.3}
    return Draw(**(base | settings))


def last_of(steps, time, environment):
    """Return the last time that was seen of an episode, and whether it ended there by failure."""
    done = steps.done[time:, environment]
    last = time + int(np.argmax(done)) if done.any() else len(steps.done) - 1
    return last, bool(steps.terminated[last, environment])


def within(achieved, goal, radius=RADIUS):
    return np.linalg.norm(achieved - goal, axis=-1) <= radius


@pytest.mark.parametrize("sequence", [1, 3])
def test_labels_are_those_of_a_search(sequence):
    draw = draw_of(sequence=sequence, action_chunk=2)
    batch, steps = drawn(draw)
    kinds = set()
    for row in range(len(batch.time)):
        time, environment = batch.observation[row].astype(int)
        last, failed = last_of(steps, time, environment)
        achieved, goal = steps.achieved_goal[:, environment], batch.goal[row]
        observed = int(np.clip(last - time - (sequence - 1), 0, draw.horizon))
        arrivals = [
            k
            for k in range(observed + 1)
            if time + k + sequence - 1 <= last and within(achieved[time + k : time + k + sequence], goal).all()
        ]
        assert batch.observed[row] == observed
        assert batch.arrived[row] == bool(arrivals)
        assert batch.time[row] == (arrivals[0] if arrivals else 0)
        assert batch.failed[row] == (failed and last - time < draw.horizon)
        assert batch.valid[row] == (last > time)
        assert batch.action[row, 0] == time
        assert batch.action[row, 1] == (time + 1 if last > time else 0)
        for k in range(1, min(last - time, draw.horizon) + 1):
            near = np.mean([within(achieved[time + k], goal[0], RADIUS / part) for part in (1, 2, 4)])
            assert batch.nearness[row, k - 1] == pytest.approx(near)
        kinds.add((bool(arrivals), failed, batch.time[row] == 0))
    assert len(kinds) >= 6


def test_goals_are_of_the_future_of_the_step_itself_and_of_other_rows():
    batch, steps = drawn(draw_of(own_goals=0.25, random_goals=0.25), rows=4000)
    time, environment = batch.observation.astype(int).T
    own = np.all(batch.goal[:, 0] == steps.achieved_goal[time, environment], axis=-1)
    ahead = np.full(len(time), -1)
    for row in range(len(time)):
        last, _ = last_of(steps, time[row], environment[row])
        future = steps.achieved_goal[time[row] : last + 1, environment[row]]
        same = np.all(future == batch.goal[row, 0], axis=-1)
        ahead[row] = np.argmax(same) if same.any() else -1
    assert np.mean(ahead == -1) == pytest.approx(0.25, abs=0.04)  # but for the few that fall on their own episode
    ends = np.array([last_of(steps, *at)[0] for at in zip(time, environment, strict=True)]) == time
    assert np.mean(own & ~ends) == pytest.approx(0.25 * np.mean(~ends), abs=0.03)
    assert np.all(batch.arrived | (ahead != 0))


def test_a_sequence_holds_achieved_goals_that_follow_each_other_and_ends_with_its_episode():
    batch, steps = drawn(draw_of(sequence=4, random_goals=0.0, own_goals=1.0))
    for row in range(len(batch.time)):
        time, environment = batch.observation[row].astype(int)
        last, _ = last_of(steps, time, environment)
        expected = steps.achieved_goal[np.minimum(time + np.arange(4), last), environment]
        np.testing.assert_array_equal(batch.goal[row], expected)


def test_what_is_not_asked_for_is_not_labelled():
    assert drawn(draw_of(nearness=False), rows=4)[0].nearness is None


def test_rows_are_drawn_from_the_whole_buffer_and_nothing_else():
    batch, _ = drawn(draw_of(), rows=5000)
    assert set(batch.observation[:, 0].astype(int)) == set(range(30, 70))
