import math
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from replay_model import (
    CAPACITY,
    NUM_ENVS,
    GoalWeights,
    discounted,
    empty_like,
    encoded_trajectory,
    family,
    joint_distribution,
    p_value,
    rings_after,
)
from scipy import stats

from kilolayer.data import Batch, ReplayBuffer, insert, sample_hindsight, sample_times, truncated_geometric

NUM_DRAWS = 20_000
DISCOUNTS = (0.5, 0.9, 0.99, 1.0)


@cache
def drawn_counts(discount: float) -> np.ndarray:
    """How often each (environment, time - oldest, goal time - time) was drawn, for each buffer."""
    buffers, histories = family()

    @eqx.filter_jit
    @eqx.filter_vmap
    def draw(buffer: ReplayBuffer, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return sample_times(buffer, (NUM_DRAWS,), discount, key)

    environment, time, goal_time = (
        np.asarray(drawn) for drawn in draw(buffers, jax.random.split(jax.random.key(7), len(histories)))
    )
    oldest = np.maximum([len(history) - CAPACITY for history in histories], 0)[:, None]
    age, ahead = time - oldest, goal_time - time
    assert ((age >= 0) & (age < CAPACITY) & (ahead >= 0) & (ahead < CAPACITY)).all()
    assert ((environment >= 0) & (environment < NUM_ENVS)).all()
    shape = (NUM_ENVS, CAPACITY, CAPACITY)
    codes = np.ravel_multi_index((environment, age, ahead), shape)
    return np.stack([np.bincount(code, minlength=math.prod(shape)).reshape(shape) for code in codes])


def family_p_values(discount: float, weight: GoalWeights) -> np.ndarray:
    counts = drawn_counts(discount)
    expected = [joint_distribution(history, CAPACITY, weight) for history in family()[1]]
    return np.array([p_value(*pair) for pair in zip(counts, expected, strict=True)])


@pytest.mark.parametrize(
    "discount", [pytest.param(one, marks=[] if one in (0.9, 1.0) else [pytest.mark.slow]) for one in DISCOUNTS]
)
def test_draws_have_the_exact_joint_distribution(discount: float) -> None:
    p_values = family_p_values(discount, discounted(discount))
    assert len(p_values) == 192
    assert p_values.min() > 1e-3 / len(p_values)
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


def longest_future(done: np.ndarray) -> int:
    """Most steps that any held step has ahead of it in its episode."""
    rings = rings_after(done, CAPACITY)
    return max(last - time for ring in rings for time, last in ring.last_times().items())


@pytest.mark.parametrize(
    ("weight", "rejected"),
    [
        pytest.param(lambda k, h: discounted(0.9)(k, max(h - 1, 0)), 0.8, id="one step too short"),
        pytest.param(lambda k, h: 0.9**k if k <= h else 0.0, 0.8, id="own state among the goals"),
        pytest.param(lambda k, h: discounted(0.8)(k, h), 0.7, id="another discount"),
        pytest.param(lambda k, h: discounted(1.0)(k, h), 0.7, id="no discount"),
        pytest.param(lambda k, h: 0.9 ** (h - k) if min(h, 1) <= k <= h else 0.0, 0.7, id="backwards"),
    ],
)
def test_the_same_test_rejects_a_wrong_goal_distribution(weight: GoalWeights, rejected: float) -> None:
    has_future = np.array([longest_future(done) > 1 for done in family()[1]])
    p_values = family_p_values(0.9, weight)[has_future]
    assert len(p_values) > 100
    assert (p_values < 1e-4).mean() > rejected


def test_the_same_test_rejects_a_ring_one_step_shorter() -> None:
    for history, counts in zip(family()[1], drawn_counts(0.9), strict=True):
        if len(history) < CAPACITY:
            continue
        shorter = np.zeros_like(counts, float)
        shorter[:, 1:, :-1] = joint_distribution(history, CAPACITY - 1, discounted(0.9))
        assert p_value(counts, shorter) < 1e-4


def geometric_probabilities(discount: float, horizon: int) -> np.ndarray:
    """Probability of k = 0 ... horizon."""
    weights = np.append(0.0, np.power(discount, np.arange(1.0, horizon + 1)))
    return weights / weights.sum()


@pytest.mark.parametrize("discount", [0.5, 0.9, 0.99, 0.9999, 1.0])
@pytest.mark.parametrize("horizon", [1, 2, 7, 1000])
def test_steps_ahead_are_truncated_geometric(discount: float, horizon: int) -> None:
    num_draws = 1_000_000
    ahead = truncated_geometric(jnp.full(num_draws, horizon), discount, jax.random.key(horizon))
    counts = np.bincount(ahead, minlength=horizon + 1)
    assert len(counts) == horizon + 1
    assert counts[0] == 0
    if horizon == 1:
        assert counts[1] == num_draws
    else:
        probabilities = geometric_probabilities(discount, horizon)
        assert p_value(counts, probabilities) > 1e-4
        off_by_one = np.append(geometric_probabilities(discount, horizon - 1), 0.0)
        if horizon * (1.0 - discount) < 5.0:
            assert p_value(counts, off_by_one) < 1e-4


@pytest.mark.parametrize("discount", [0.5, 0.99, 0.9999, 1.0])
def test_steps_ahead_lie_between_one_and_the_horizon(discount: float) -> None:
    horizon = jax.random.randint(jax.random.key(0), (200_000,), 0, 1001)
    ahead = truncated_geometric(horizon, discount, jax.random.key(1))
    assert ahead.shape == horizon.shape
    assert (ahead <= horizon).all()
    assert ((ahead == 0) == (horizon == 0)).all()


@pytest.mark.parametrize("discount", [1e-6, 0.5, 0.99, 0.9999, 1.0])
@pytest.mark.parametrize("uniform", [0.0, float(np.nextafter(np.float32(1), np.float32(0)))])
def test_extreme_random_numbers_stay_within_the_horizon(
    discount: float, uniform: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.full(shape, uniform))
    horizon = jnp.arange(10_001)
    ahead = truncated_geometric(horizon, discount, jax.random.key(0))
    assert (ahead <= horizon).all()
    assert (ahead >= jnp.minimum(horizon, 1)).all()
    if uniform == 0.0:
        assert (ahead == jnp.minimum(horizon, 1)).all()


@eqx.filter_jit
def sample_jitted(buffer: ReplayBuffer, shape: tuple[int, ...], discount: float, key: jax.Array) -> Batch:
    return sample_hindsight(buffer, shape, discount, key)


insert_jitted = eqx.filter_jit(insert)


@cache
def wrapped_buffer() -> tuple[ReplayBuffer, np.ndarray]:
    """A full ring of three environments, wrapped, with episodes of many lengths; and when they ended."""
    done = np.random.default_rng(3).random((54, 3)) < np.array([0.1, 0.4, 1.0])
    buffer = empty_like(20, 3)
    for start in range(0, len(done), 9):
        buffer = insert_jitted(buffer, encoded_trajectory(done[start : start + 9], start))
    return buffer, done


def test_rows_of_a_batch_belong_together() -> None:
    buffer, done = wrapped_buffer()
    batch = sample_jitted(buffer, (64, 128), 0.9, jax.random.key(0))
    assert (batch.observation.shape, batch.action.shape, batch.desired_goal.shape) == (
        (64, 128, 3),
        (64, 128, 2),
        (64, 128, 2),
    )
    time, environment, one = np.moveaxis(np.asarray(batch.observation), -1, 0).astype(int)
    goal_time = (-np.asarray(batch.desired_goal)[..., 0] - 1).astype(int)
    assert (one == 1).all()
    np.testing.assert_array_equal(batch.action[..., 0], environment + 0.5)
    np.testing.assert_array_equal(batch.action[..., 1], time + 0.25)
    np.testing.assert_array_equal(batch.desired_goal[..., 1], environment + 100)
    last_time = np.full((len(done), 3), -1)
    for column, ring in enumerate(rings_after(done, 20)):
        for held, last in ring.last_times().items():
            last_time[held, column] = last
    latest = last_time[time, environment]
    assert (latest >= 0).all()
    assert (goal_time <= latest).all()
    assert ((goal_time > time) == (latest > time)).all()
    assert ((goal_time == time) == (latest == time)).all()


def test_batches_cover_the_whole_buffer_and_nothing_else() -> None:
    buffer, done = wrapped_buffer()
    batch = sample_jitted(buffer, (8192,), 0.9, jax.random.key(0))
    drawn = {(int(time), int(environment)) for time, environment, _ in np.asarray(batch.observation)}
    assert drawn == {(time, environment) for time in range(len(done) - 20, len(done)) for environment in range(3)}


def test_batches_of_a_partly_filled_buffer_hold_inserted_steps_only() -> None:
    buffer = insert_jitted(empty_like(20, 3), encoded_trajectory(np.zeros((4, 3), bool)))
    batch = sample_jitted(buffer, (8192,), 0.9, jax.random.key(0))
    drawn = {(int(time), int(environment)) for time, environment, _ in np.asarray(batch.observation)}
    assert drawn == {(time, environment) for time in range(4) for environment in range(3)}
    assert (batch.desired_goal[:, 1] >= 100).all()


def mean_steps_ahead(batch: Batch) -> float:
    return float((-batch.desired_goal[:, 0] - 1 - batch.observation[:, 0]).mean())


def test_a_higher_discount_draws_goals_farther_ahead() -> None:
    buffer = insert_jitted(empty_like(100, 2), encoded_trajectory(np.zeros((100, 2), bool)))
    near, middle, far = (
        mean_steps_ahead(sample_jitted(buffer, (8192,), discount, jax.random.key(0))) for discount in (0.5, 0.9, 1.0)
    )
    assert near == pytest.approx(2.0, rel=0.05)
    assert near < 0.5 * middle < 0.5 * far
    assert far == pytest.approx(25.0, rel=0.05)


def test_draws_are_set_by_the_key() -> None:
    buffer, _ = wrapped_buffer()
    first, again, other = (sample_jitted(buffer, (8192,), 0.9, jax.random.key(seed)) for seed in (0, 0, 1))
    assert eqx.tree_equal(first, again)
    assert not jnp.array_equal(first.observation, other.observation)
    assert not jnp.array_equal(first.desired_goal, other.desired_goal)
