"""C-learning against its equations written out, and on a world in which the classifiers are known exactly."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from goal_agents import (
    ACTION,
    BATCH,
    GOAL,
    OBSERVATION,
    best_actions_chosen,
    c_learning,
    first_state,
    normal,
    on_the_line,
    random_batch,
    train,
)
from tiny_worlds import Line

from kilolayer.agents import CLearning, CLearningConfig
from kilolayer.agents.core import gaussian_policy
from kilolayer.errors import ConfigurationError

AGENT = c_learning()


network = jax.jit(lambda network, x: network(x))


def log_odds(critic, *parts):
    """Return what the classifier puts out, as numbers of NumPy."""
    return np.asarray(network(critic, jnp.concatenate(parts, axis=-1))[:, 0], np.float64)


# ---- The equations -----------------------------------------------------------------------------------------


def test_the_critic_loss_is_the_one_written_out():
    state, batch = first_state(AGENT), random_batch()
    weights = np.linspace(0.1, 3.0, BATCH)
    random = jnp.roll(batch.next_achieved_goal, 1, axis=0)
    at_next, at_random = (
        1.0 / (1.0 + np.exp(-log_odds(state.critic, batch.observation, batch.action, goal)))
        for goal in (batch.next_achieved_goal, random)
    )
    total = 0.0
    for row in range(BATCH):
        if row == 5:  # nobody knows what follows
            continue
        if row != 2:  # a failure has no future, so that none of its goals is a positive
            total -= 0.01 * np.log(at_next[row])
            total -= 0.99 * weights[row] * np.log(at_random[row])
        total -= np.log(1.0 - at_random[row])
    weights[2] = 0.0
    loss, metrics = jax.jit(AGENT.critic_loss)(state.critic, batch, jnp.asarray(weights, jnp.float32))
    assert float(loss) == pytest.approx(total / (BATCH - 1), rel=1e-5)
    assert metrics["critic_loss"] == loss


def test_the_weight_is_the_odds_of_the_target_classifier_at_the_policys_next_action():
    state, batch, key = first_state(AGENT), random_batch(), jax.random.key(2)
    goal = jnp.roll(batch.next_achieved_goal, 1, axis=0)
    output = network(state.actor, jnp.concatenate([batch.next_observation, goal], axis=-1))
    std = jnp.exp(-5.0 + 3.5 * (jnp.tanh(output[:, ACTION:]) + 1.0))
    action = jnp.tanh(output[:, :ACTION] + std * jax.random.normal(key, (BATCH, ACTION)))
    chance = 1.0 / (1.0 + np.exp(-log_odds(state.target_critic, batch.next_observation, action, goal)))
    expected = chance / (1.0 - chance)
    expected[2] = 0.0
    np.testing.assert_allclose(jax.jit(AGENT.weights)(state, batch, key), expected, rtol=1e-4)
    middle = float(np.median(expected))
    bounded = jax.jit(c_learning(max_weight=middle).weights)(state, batch, key)
    np.testing.assert_allclose(bounded, np.minimum(expected, middle), rtol=1e-4)


def test_no_gradient_enters_the_weights():
    state, batch = first_state(AGENT), random_batch()
    gradient = jax.jit(jax.grad(lambda weights: AGENT.critic_loss(state.critic, batch, weights)[0]))(jnp.ones(BATCH))
    assert not np.any(gradient)


def test_value_is_the_log_odds_at_the_deterministic_action():
    state, batch = first_state(AGENT), random_batch()
    mean = network(state.actor, jnp.concatenate([batch.observation, batch.desired_goal], axis=-1))[:, :ACTION]
    value = jax.jit(AGENT.value)(state, batch.observation, batch.desired_goal)
    expected = log_odds(state.critic, batch.observation, jnp.tanh(mean), batch.desired_goal)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)


def test_a_step_moves_every_part_by_its_own_rate():
    agent = c_learning(actor_learning_rate=1e-3, critic_learning_rate=2e-3, alpha_learning_rate=5e-3, target_rate=0.25)
    state = first_state(agent)
    new, metrics = jax.jit(agent.learn)(state, random_batch(), jax.random.key(0))
    assert all(np.isfinite(value) for value in metrics.values())
    for part, rate in (("actor", 1e-3), ("critic", 2e-3), ("log_alpha", 5e-3)):
        for old_leaf, new_leaf in zip(*(jax.tree.leaves(getattr(s, part)) for s in (state, new)), strict=True):
            # Adam's first step is the learning rate, whatever the gradient.
            assert np.abs(new_leaf - old_leaf).max() == pytest.approx(rate, rel=2e-2)
    followed = jax.tree.map(lambda slow, fast: 0.75 * slow + 0.25 * fast, state.target_critic, new.critic)
    for ours, theirs in zip(jax.tree.leaves(new.target_critic), jax.tree.leaves(followed), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


# ---- A world that is known exactly -------------------------------------------------------------------------

WORLD = Line(num_states=4, discount=0.6)
FAST = {"discount": WORLD.discount, "critic_learning_rate": 2e-3, "target_rate": 0.02}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bias", "right"),
    [pytest.param(0.0, 0.5, id="uniform", marks=pytest.mark.slow), pytest.param(0.7, 1.0, id="always_right")],
)
def test_the_odds_become_the_occupancy_of_the_policy_not_of_the_behaviour(bias, right):
    """Each odds times the goal's share of the buffer is p(g | s, a), whatever behaviour filled the buffer.

    Within 0.1, and 0.03 on average: batches are small, and each weight adds its error to those of the states before.
    The target classifier is looked at, which averages over the last steps.
    """
    agent = on_the_line(CLearning, WORLD, CLearningConfig(**FAST, actor_learning_rate=1e-9))
    state = jax.jit(agent.init)(jax.random.key(0))
    head = state.actor.head
    fixed = (jnp.zeros_like(head.weight), jnp.array([bias, 0.0]))
    state = eqx.tree_at(lambda s: (s.actor.head.weight, s.actor.head.bias), state, fixed)
    buffer = WORLD.buffer()
    state, _ = train(agent, state, buffer, 2000)
    observation, action, goal = WORLD.everything()
    odds = jnp.exp(jax.jit(agent.score)(state.target_critic, observation, action, goal))
    shares = np.asarray(buffer.achieved_goal).mean(axis=(0, 1))
    occupancy = np.asarray(odds).reshape(4, 2, 4) * shares
    error, error_of_other = (np.abs(occupancy - WORLD.occupancy(chance)) for chance in (right, 1.5 - right))
    assert error.max() < 0.1
    assert error.mean() < 0.03
    assert error_of_other.max() > 0.3


@pytest.mark.slow
def test_the_actor_becomes_optimal():
    agent = on_the_line(CLearning, WORLD, CLearningConfig(**FAST, actor_learning_rate=1e-3, alpha_learning_rate=1e-3))
    state, _ = train(agent, jax.jit(agent.init)(jax.random.key(0)), WORLD.buffer(), 1500)
    assert np.all(best_actions_chosen(agent, state, WORLD))


# ---- Options -----------------------------------------------------------------------------------------------


def outcome(agent):
    """Say what an agent makes of one batch: its losses, their pull on alpha, and an action."""

    @jax.jit
    def look(state, batch, observation, goal):
        weights = agent.weights(state, batch, jax.random.key(3))
        critic_loss, _ = agent.critic_loss(state.critic, batch, weights)
        actor_loss, metrics = agent.actor_loss(
            state.actor, state.critic, jnp.exp(state.log_alpha), batch, jax.random.key(1)
        )
        return {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "alpha_loss": gaussian_policy.alpha_loss(jnp.zeros(()), metrics["entropy"], agent.target_entropy),
            "best_of": agent.act(state, observation, goal, jax.random.key(2), "best_of"),
        }

    return look(first_state(agent), random_batch(16), normal(64, OBSERVATION), normal(64, GOAL, seed=1))


CRITIC = {"critic_loss", "actor_loss", "best_of"}
ACTOR = {"critic_loss", "actor_loss", "alpha_loss", "best_of"}  # the actor chooses the next action of the weights
OPTIONS = {
    "discount": (0.5, {"critic_loss"}),
    "max_weight": (0.1, {"critic_loss"}),
    "hindsight": (1.0, {"actor_loss", "alpha_loss"}),
    "actor_depth": (4, ACTOR),
    "actor_width": (16, ACTOR),
    "critic_depth": (0, CRITIC),
    "critic_width": (16, CRITIC),
    "initial_alpha": (0.1, {"actor_loss"}),
    "target_entropy": (0.5, {"alpha_loss"}),
    "candidates": (2, {"best_of"}),
    "behaviour_cloning": (0.5, {"actor_loss"}),
}
# Shown by the step that moves every part by its own rate.
RATES = {"actor_learning_rate", "critic_learning_rate", "alpha_learning_rate", "target_rate"}


def test_every_option_is_listed_here():
    assert set(OPTIONS) | RATES == {field.name for field in dataclasses.fields(CLearningConfig)}


@functools.cache
def default_outcome():
    return outcome(AGENT)


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_changes_what_it_says_and_nothing_else(option):
    value, expected = OPTIONS[option]
    assert getattr(CLearningConfig(), option) != value
    ours = outcome(c_learning(**{option: value}))
    changed = {name for name, plain in default_outcome().items() if not np.allclose(ours[name], plain, rtol=1e-3)}
    assert changed == expected


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("discount", 1.0, "discount=1.0 must be above 0 and below 1"),
        ("target_rate", 0.0, "target_rate=0.0 must be above 0"),
        ("target_rate", 1.1, "target_rate=1.1 must be from 0 to 1"),
        ("max_weight", 0.0, "max_weight=0.0 must be above 0"),
        ("max_weight", float("inf"), "max_weight=inf must be a finite number"),
    ],
)
def test_impossible_settings_are_refused_by_name(option, value, message):
    with pytest.raises(ConfigurationError) as error:
        c_learning(**{option: value})
    assert str(error.value) == message
