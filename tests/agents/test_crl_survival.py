"""Failure in the actor's score, and two critics: options of CRL."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.agents import CRL, CRLConfig
from kilolayer.agents.core.gaussian_policy import policy
from kilolayer.data import Batch, Trajectory, empty_buffer, insert, sample_hindsight
from kilolayer.errors import ConfigurationError
from kilolayer.objectives import tanh_gaussian
from kilolayer.training import Setup
from small_runs import small_config

SIZES = {"observation_size": 3, "goal_size": 2, "action_size": 2, "batch_size": 16, "depth": 4, "width": 16}


def agent(**settings):
    return CRL(**SIZES, config=CRLConfig(**settings))


def batch_of(seed=0, rows=16):
    keys = jax.random.split(jax.random.key(seed), 4)
    sizes = (SIZES["observation_size"], SIZES["action_size"], SIZES["goal_size"])
    observation, action, goal = (jax.random.normal(key, (rows, size)) for key, size in zip(keys, sizes, strict=False))
    return Batch(observation, jnp.tanh(action), goal, survived=jax.random.uniform(keys[3], (rows,)) < 0.7)


def failing_buffer():
    """Two robots of which one falls in every eighth step, and the other is truncated there."""
    length = 64
    done = jnp.tile((jnp.arange(length) % 8 == 7)[:, None], (1, 2))
    time = jnp.broadcast_to(jnp.arange(length, dtype=jnp.float32)[:, None, None], (length, 2, 1))
    steps = Trajectory(
        observation=jnp.concatenate([time, jnp.broadcast_to(jnp.arange(2.0)[:, None], (length, 2, 1))], axis=-1),
        achieved_goal=time,
        desired_goal=time,
        action=time,
        terminated=done & (jnp.arange(2) == 0),
        done=done,
        diverged=jnp.zeros((length, 2), bool),
    )
    return insert(empty_buffer(length, 2, 2, 1, 1), steps)


def test_a_row_survives_unless_its_episode_fails_within_the_drawn_steps():
    discount = 0.8
    batch = sample_hindsight(failing_buffer(), (40_000,), 0.9, jax.random.key(0), failure_discount=discount)
    time, robot = np.asarray(batch.observation).T
    assert batch.survived[robot == 1].all()  # what was not seen counts as survived
    for left in range(8):  # P(k > left) of a geometric k
        rows = (robot == 0) & (7 - time % 8 == left)
        assert np.mean(~np.asarray(batch.survived)[rows]) == pytest.approx(discount**left, abs=0.03)


def test_without_the_option_rows_are_the_same_and_say_nothing():
    plain = sample_hindsight(failing_buffer(), (100,), 0.9, jax.random.key(0))
    asked = sample_hindsight(failing_buffer(), (100,), 0.9, jax.random.key(0), failure_discount=0.9)
    assert plain.survived is None
    for name in ("observation", "action", "desired_goal"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(asked, name))


def test_the_score_of_the_actor_is_the_energy_and_the_weighted_log_of_surviving():
    weighted, batch, key = agent(survival_weight=2.0), batch_of(), jax.random.key(1)
    state = weighted.init(jax.random.key(0))
    _, metrics = jax.jit(weighted.learn)(state, batch, key)
    _, plain = jax.jit(agent().learn)(agent().init(jax.random.key(0)), batch, key)
    # The first critic and the actor of both agents begin as the same.
    assert metrics["critic_loss"] == pytest.approx(float(plain["critic_loss"]), rel=1e-5)
    action, _ = tanh_gaussian.sample(*policy(state.actor, batch.observation, batch.desired_goal), key)
    logit = state.survival(jnp.concatenate([batch.observation, action], axis=-1))[:, 0]
    expected = plain["actor_value"] + 2.0 * jnp.mean(jax.nn.log_sigmoid(logit))
    assert metrics["actor_value"] == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.slow
def test_survival_becomes_the_probability_of_it():
    """States at 0 always survive, those at 1 in a quarter of the rows."""
    learner = agent(survival_weight=1.0, critic_learning_rate=3e-3)
    batch = batch_of(rows=64)
    side = (jnp.arange(64) % 2)[:, None].astype(jnp.float32)
    survived = (side[:, 0] == 0) | (jnp.arange(64) % 8 == 1)
    batch = Batch(jnp.tile(side, (1, 3)), jnp.zeros_like(batch.action), batch.desired_goal, survived)
    state, step = learner.init(jax.random.key(0)), jax.jit(learner.learn)
    for number in range(300):
        state, _ = step(state, batch, jax.random.key(number))
    probability = jax.nn.sigmoid(state.survival(jnp.concatenate([batch.observation, batch.action], axis=-1))[:, 0])
    np.testing.assert_allclose(probability[::2], 1.0, atol=0.05)
    np.testing.assert_allclose(probability[1::2], 0.25, atol=0.08)


def test_of_two_critics_the_smaller_score_counts():
    twin, batch = agent(critics=2), batch_of()
    state = twin.init(jax.random.key(0))
    assert set(twin.networks(state)) == {"actor", "phi", "psi", "phi_2", "psi_2"}
    value = twin.value(state, batch.observation, batch.desired_goal)
    alone = [
        agent().value(agent().init(jax.random.key(0)), batch.observation, batch.desired_goal),
        agent().value(
            type(state)(state.actor, state.second_critic, state.log_alpha, {}), batch.observation, batch.desired_goal
        ),
    ]
    np.testing.assert_allclose(value, jnp.minimum(*alone), rtol=1e-5)
    assert jnp.any(alone[0] < alone[1])
    assert jnp.any(alone[1] < alone[0])
    after, metrics = jax.jit(twin.learn)(state, batch, jax.random.key(1))
    assert metrics["second_critic_loss"] != metrics["critic_loss"]
    moved = jax.tree.map(lambda old, new: jnp.abs(old - new).max(), state.second_critic, after.second_critic)
    assert max(jax.tree.leaves(moved)) > 0.0


def test_both_go_through_a_run_s_own_data():
    def counts(**settings):
        config = small_config(crl={"critics": 2, "survival_weight": 0.5, **settings})
        return Setup.build(config).agent.parameter_counts()

    assert set(counts()) == {"actor", "phi", "psi", "phi_2", "psi_2", "survival"}
    assert counts(survival_depth=8)["survival"] > counts()["survival"]
    agents = [agent(survival_weight=1.0, survival_discount=discount) for discount in (0.5, 0.99)]
    few, many = (dataclasses.replace(own, batch_size=4000).draw(failing_buffer(), jax.random.key(0)) for own in agents)
    assert jnp.mean(few.survived) > jnp.mean(many.survived)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"critics": 3}, "critics=3 must be 1 or 2"),
        ({"survival_weight": -1.0}, "survival_weight=-1.0 must not be negative"),
        ({"survival_discount": 1.0}, "survival_discount=1.0 must be above 0 and below 1"),
    ],
)
def test_what_cannot_be_is_one_line(settings, words):
    with pytest.raises(ConfigurationError, match=words):
        CRLConfig(**settings)


def test_a_depth_of_survival_that_cannot_be_is_one_line_if_it_counts():
    with pytest.raises(ConfigurationError, match=r"crl\.survival_depth: depth=6 is not a multiple of block_size=4"):
        Setup.build(small_config(crl={"survival_weight": 1.0, "survival_depth": 6}))
    Setup.build(small_config(crl={"survival_depth": 6}))
