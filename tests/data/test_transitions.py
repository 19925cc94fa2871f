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

from kilolayer.agents.core.twin_critic import HERConfig, TwinCriticAgent
from kilolayer.data import ReplayBuffer, Transitions, insert, sample_transitions

NUM_DRAWS = 20_000
SHARES = (0.0, 0.3, 1.0)


@eqx.filter_jit
def draw(buffer: ReplayBuffer, relabeled: float, seed: int, shape: tuple[int, ...] = (NUM_DRAWS,)) -> Transitions:
    return sample_transitions(buffer, shape, jax.random.key(seed), relabeled=relabeled)


@cache
def drawn(relabeled: float) -> Transitions:
    """Draws of each buffer of the family, as NumPy arrays."""
    buffers, histories = family()

    @eqx.filter_jit
    @eqx.filter_vmap
    def draw(buffer: ReplayBuffer, key: jax.Array) -> Transitions:
        return sample_transitions(buffer, (NUM_DRAWS,), key, relabeled=relabeled)

    return jax.tree.map(np.asarray, draw(buffers, jax.random.split(jax.random.key(3), len(histories))))


def place(batch: Transitions) -> tuple[np.ndarray, np.ndarray]:
    """Time and environment of each draw."""
    return batch.observation[..., 0].astype(int), batch.observation[..., 1].astype(int)


def is_relabeled(batch: Transitions) -> np.ndarray:
    """Commanded goals end with a number of at most 0, achieved ones with one of at least 100."""
    return np.asarray(batch.desired_goal)[..., 1] >= 100


def steps_ahead(batch: Transitions) -> np.ndarray:
    """How many steps ahead a relabelled goal was achieved; 0 for a commanded goal."""
    goal_time = (-np.asarray(batch.desired_goal)[..., 0] - 1).astype(int)
    return np.where(is_relabeled(batch), goal_time - place(batch)[0], 0)


def last_times(history: np.ndarray) -> np.ndarray:
    """The last time held of the episode of each time and environment; -1 for steps that are not held."""
    table = np.full(history.shape, -1)
    for environment, ring in enumerate(rings_after(history, CAPACITY)):
        for time, last in ring.last_times().items():
            table[time, environment] = last
    return table


# ---- What belongs together ---------------------------------------------------------------------------------


@pytest.mark.parametrize("relabeled", [pytest.param(each, marks=[pytest.mark.slow] * (each != 0.3)) for each in SHARES])
def test_every_draw_is_a_step_of_its_episode_and_what_followed(relabeled: float) -> None:
    for index, history in enumerate(family()[1]):
        batch = jax.tree.map(lambda leaf, index=index: leaf[index, :2000], drawn(relabeled))
        time, environment = place(batch)
        last = last_times(history)[time, environment]
        failed = (history & (np.arange(len(history))[:, None] % 2 == 0))[time, environment]
        goes_on = last > time
        next_time, one = time + goes_on, np.ones_like(time)
        assert (last >= 0).all()
        np.testing.assert_array_equal(batch.action, np.stack([environment + 0.5, time + 0.25], -1))
        np.testing.assert_array_equal(batch.next_observation, np.stack([next_time, environment, one], -1))
        np.testing.assert_array_equal(batch.next_achieved_goal, np.stack([-next_time - 1, environment + 100], -1))
        np.testing.assert_array_equal(batch.terminated, failed)
        np.testing.assert_array_equal(batch.known, goes_on | failed)

        hindsight, ahead = is_relabeled(batch), steps_ahead(batch)
        assert (ahead[hindsight] >= 1).all()
        assert (time + ahead <= last).all()
        np.testing.assert_array_equal(batch.desired_goal[hindsight, 1], environment[hindsight] + 100)
        np.testing.assert_array_equal(batch.next_desired_goal[hindsight], batch.desired_goal[hindsight])
        for goal, its_time in ((batch.desired_goal, time), (batch.next_desired_goal, next_time)):
            commanded = np.stack([its_time + 0.5, -environment], -1)
            np.testing.assert_array_equal(goal[~hindsight], commanded[~hindsight])


def test_the_family_holds_every_kind_of_step() -> None:
    batch = drawn(0.3)
    time, environment = place(batch)
    newest = time == np.array([len(history) - 1 for history in family()[1]])[:, None]
    ended = np.stack(
        [history[t, e] for history, t, e in zip(family()[1], time, environment, strict=True)]
    )  # done with this step
    kinds = {
        "failed": batch.terminated,
        "truncated": ended & ~batch.terminated & ~newest,
        "newest": newest & ~ended,
        "goes on": batch.known & ~batch.terminated,
    }
    for name, kind in kinds.items():
        assert kind.mean() > 0.01, name
    np.testing.assert_array_equal(batch.known, kinds["failed"] | kinds["goes on"])
    assert min(len(history) for history in family()[1]) < CAPACITY < max(len(history) for history in family()[1])


def test_what_follows_a_truncation_or_the_newest_step_is_unknown() -> None:
    done = np.isin(np.arange(8), [2, 5])[:, None]
    buffer = insert(empty_like(8, 1), encoded_trajectory(done))
    batch = draw(buffer, 0.8, 0)
    time, _ = place(batch)
    for step in range(8):
        here = time == step
        assert np.all(batch.known[here] == (step not in (5, 7))), step  # truncated at 5; 7 is the newest
        assert np.all(batch.terminated[here] == (step == 2)), step
        assert is_relabeled(batch)[here].any() == (step not in (2, 5, 7)), step


# ---- Which goals -------------------------------------------------------------------------------------------


def future(share: float) -> GoalWeights:
    """Weights of the `future` strategy, with the commanded goal as 0 steps ahead."""

    def weight(ahead: int, horizon: int) -> float:
        if horizon == 0:
            return float(ahead == 0)
        if ahead == 0:
            return 1.0 - share
        return share / horizon if ahead <= horizon else 0.0

    return weight


@cache
def drawn_counts(relabeled: float) -> np.ndarray:
    """How often each (environment, time - oldest, steps ahead) was drawn, for each buffer."""
    batch = drawn(relabeled)
    time, environment = place(batch)
    oldest = np.maximum([len(history) - CAPACITY for history in family()[1]], 0)[:, None]
    shape = (NUM_ENVS, CAPACITY, CAPACITY)
    codes = np.ravel_multi_index((environment, time - oldest, steps_ahead(batch)), shape)
    return np.stack([np.bincount(code, minlength=math.prod(shape)).reshape(shape) for code in codes])


def family_p_values(relabeled: float, weight: GoalWeights) -> np.ndarray:
    expected = [joint_distribution(history, CAPACITY, weight) for history in family()[1]]
    return np.array([p_value(*pair) for pair in zip(drawn_counts(relabeled), expected, strict=True)])


@pytest.mark.parametrize("relabeled", SHARES)
def test_a_share_of_the_goals_is_drawn_evenly_from_the_steps_to_come(relabeled: float) -> None:
    p_values = family_p_values(relabeled, future(relabeled))
    assert p_values.min() > 1e-3 / len(p_values)
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


def mixed(share: float, goals: GoalWeights) -> GoalWeights:
    """Weights of another strategy, relabelling a share."""

    def weight(ahead: int, horizon: int) -> float:
        if horizon == 0:
            return float(ahead == 0)
        own = (1.0 - share) * (ahead == 0)
        return own + share * goals(ahead, horizon) / sum(goals(k, horizon) for k in range(horizon + 1))

    return weight


@pytest.mark.parametrize(
    "weight",
    [
        pytest.param(future(0.4), id="another share"),
        pytest.param(mixed(0.3, discounted(0.7)), id="discounted"),
        pytest.param(mixed(0.3, lambda k, h: float(k == h)), id="the last step alone"),
        pytest.param(mixed(0.3, lambda k, h: float(1 < k <= h or k == h)), id="not the next step"),
        pytest.param(mixed(0.3, lambda k, h: float(k <= h)), id="the own state too"),
    ],
)
def test_the_same_test_rejects_another_strategy(weight: GoalWeights) -> None:
    longest = [max((last_times(history) - np.arange(len(history))[:, None]).max(), 0) for history in family()[1]]
    p_values = family_p_values(0.3, weight)[np.array(longest) > 2]
    assert len(p_values) > 80
    assert (p_values < 1e-4).mean() > 0.7


# ---- Rewards -----------------------------------------------------------------------------------------------


def agent(success) -> TwinCriticAgent:
    return TwinCriticAgent(observation_size=3, goal_size=2, action_size=2, success=success)


def rewards(batch: Transitions, success) -> np.ndarray:
    return np.asarray(jax.jit(agent(success).reward)(jax.tree.map(jnp.asarray, batch)))


@cache
def flat() -> Transitions:
    """Draws of the whole family as one batch, a share of them."""
    return jax.tree.map(lambda leaf: leaf[:, :256].reshape(-1, *leaf.shape[2:]), drawn(0.3))


def test_rewards_are_those_of_the_goal_that_is_asked_for_now() -> None:
    reward = rewards(flat(), lambda achieved, desired: jnp.all(achieved == desired))
    # No goal that is commanded is ever achieved here; the one that the next step achieves is.
    np.testing.assert_array_equal(reward, steps_ahead(flat()) == 1)
    assert 0.01 < reward.mean() < 0.3


def test_a_failure_is_never_rewarded() -> None:
    reward = rewards(flat(), lambda achieved, desired: jnp.array(True))
    np.testing.assert_array_equal(reward, ~flat().terminated)
    assert flat().terminated.mean() > 0.05


def test_an_agent_draws_its_relabel_ratio() -> None:
    buffer = insert(empty_like(64, 2), encoded_trajectory(np.zeros((64, 2), bool)))
    for share in SHARES:
        learner = TwinCriticAgent(
            3, 2, 2, batch_size=4096, success=jnp.array_equal, config=HERConfig(relabel_ratio=share)
        )
        batch = eqx.filter_jit(learner.draw)(buffer, jax.random.key(0))
        goes_on = place(batch)[0] < 63
        assert is_relabeled(batch)[goes_on].mean() == pytest.approx(share, abs=0.03)


# ---- Shapes and keys ---------------------------------------------------------------------------------------


def test_draws_have_the_leading_shape_asked_for_and_are_set_by_the_key() -> None:
    buffer = insert(empty_like(8, 2), encoded_trajectory(np.zeros((8, 2), bool)))
    first, again, other = (draw(buffer, 0.5, seed, (64, 3)) for seed in (0, 0, 1))
    assert (first.known.shape, first.next_observation.shape, first.next_desired_goal.shape) == (
        (64, 3),
        (64, 3, 3),
        (64, 3, 2),
    )
    assert eqx.tree_equal(first, again)
    assert not jnp.array_equal(first.observation, other.observation)
    assert not jnp.array_equal(is_relabeled(first), is_relabeled(other))
