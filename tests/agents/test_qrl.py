"""Quasimetric RL against its equations written out, and on a world whose shortest ways are known."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from goal_agents import (
    BATCH,
    GOAL,
    OBSERVATION,
    best_actions_chosen,
    first_state,
    normal,
    on_the_line,
    qrl,
    random_batch,
    train,
)
from tiny_worlds import Line

from kilolayer.agents import QRL, QRLConfig
from kilolayer.agents.core import gaussian_policy
from kilolayer.agents.qrl import multiplier_loss
from kilolayer.errors import ConfigurationError
from kilolayer.objectives import interval_quasimetric

AGENT = qrl()
FOLLOWED = [row for row in range(BATCH) if row not in (2, 5)]  # neither failed nor of unknown consequence

network = jax.jit(lambda network, x: network(x))


def distance(start, end):
    return np.asarray(interval_quasimetric(start, end, 3), np.float64)


# ---- The equations -----------------------------------------------------------------------------------------


def test_the_critic_loss_is_the_one_written_out():
    agent = qrl(distance_offset=3.0, distance_sharpness=0.5, dynamics_weight=0.7, tolerance=0.2)
    state, batch = first_state(agent), random_batch()
    encoder, goal_encoder, dynamics = (
        functools.partial(network, part)
        for part in (state.critic.state_encoder, state.critic.goal_encoder, state.critic.dynamics)
    )
    here, there = encoder(batch.observation), encoder(batch.next_observation)
    goal = goal_encoder(batch.next_achieved_goal)
    model = here + dynamics(jnp.concatenate([batch.observation, batch.action], axis=-1))
    apart = distance(here, goal_encoder(jnp.roll(batch.next_achieved_goal, 1, axis=0)))
    pull = np.mean(np.log1p(np.exp(0.5 * (3.0 - apart))) / 0.5)
    step = np.mean(np.maximum(distance(here, there) - 1.0, 0.0)[FOLLOWED] ** 2)
    achieved = np.mean(distance(there, goal) ** 2)
    both_ways = 0.5 * np.mean((distance(model, there) ** 2 + distance(there, model) ** 2)[FOLLOWED])
    log_multipliers = jnp.log(jnp.array([5.0, 2.0]))
    loss, (excess, _) = jax.jit(agent.critic_loss)(state.critic, log_multipliers, batch)
    assert float(loss) == pytest.approx(pull + 5.0 * step + 2.0 * achieved + 0.7 * both_ways, rel=1e-5)
    np.testing.assert_allclose(excess, [step - 0.04, achieved - 0.04], rtol=1e-4, atol=1e-6)


def test_steps_longer_than_one_are_what_costs():
    """New embeddings are so near each other that the test above would not see it."""
    state, batch = first_state(AGENT), random_batch()
    critic = eqx.tree_at(lambda c: c.state_encoder.head.weight, state.critic, replace_fn=lambda weight: 40.0 * weight)
    steps = distance(
        network(critic.state_encoder, batch.observation), network(critic.state_encoder, batch.next_observation)
    )
    assert np.any(steps[FOLLOWED] > 1.0)
    _, (excess, metrics) = jax.jit(AGENT.critic_loss)(critic, jnp.zeros(2), batch)
    expected = np.mean(np.maximum(steps - 1.0, 0.0)[FOLLOWED] ** 2) - 0.0625
    assert float(excess[0]) == pytest.approx(expected, rel=1e-4)
    assert float(metrics["step_distance"]) == pytest.approx(np.mean(steps[FOLLOWED]), rel=1e-4)


def test_a_multiplier_rises_where_its_constraint_is_broken_and_falls_where_it_holds():
    gradient = jax.grad(multiplier_loss)(jnp.log(jnp.array([3.0, 2.0])), jnp.array([0.5, -0.25]))
    np.testing.assert_allclose(gradient, [-1.5, 0.5], rtol=1e-6)


def test_score_and_value_are_minus_the_steps_from_the_model_and_from_the_state():
    state, batch = first_state(AGENT), random_batch()
    here, goal = (
        network(state.critic.state_encoder, batch.observation),
        network(state.critic.goal_encoder, batch.desired_goal),
    )
    change = network(state.critic.dynamics, jnp.concatenate([batch.observation, batch.action], axis=-1))
    score = jax.jit(AGENT.score)(state.critic, batch.observation, batch.action, batch.desired_goal)
    np.testing.assert_allclose(score, -distance(here + change, goal), rtol=1e-4, atol=1e-6)
    value = jax.jit(AGENT.value)(state, batch.observation, batch.desired_goal)
    np.testing.assert_allclose(value, -distance(here, goal), rtol=1e-4, atol=1e-6)
    assert np.all(value <= 0.0)


def test_a_step_moves_every_part_by_its_own_rate():
    agent = qrl(
        actor_learning_rate=1e-3,
        critic_learning_rate=2e-3,
        alpha_learning_rate=5e-3,
        multiplier_learning_rate=0.03,
        initial_multiplier=4.0,
    )
    state = first_state(agent)
    new, metrics = jax.jit(agent.learn)(state, random_batch(), jax.random.key(0))
    assert all(np.isfinite(value) for value in metrics.values())
    assert float(metrics["step_multiplier"]) == float(metrics["goal_multiplier"]) == pytest.approx(4.0)
    parts = {"actor": 1e-3, "critic": 2e-3, "log_alpha": 5e-3, "log_multipliers": 0.03}
    for part, rate in parts.items():
        for old_leaf, new_leaf in zip(*(jax.tree.leaves(getattr(s, part)) for s in (state, new)), strict=True):
            # Adam's first step is the learning rate, whatever the gradient.
            assert np.abs(new_leaf - old_leaf).max() == pytest.approx(rate, rel=2e-2)


# ---- A world whose shortest ways are known -----------------------------------------------------------------


@pytest.mark.slow
def test_distances_become_the_steps_of_the_shortest_way_and_the_actor_optimal():
    """The behaviour wanders at random; its own ways between states are much longer.

    A tolerance of 0.1 lets a step be about 1.1 long, and a goal 0.1 away from where it is achieved; as much again is
    for small batches.
    """
    world, tolerance = Line(num_states=4), 0.1
    config = QRLConfig(
        representation_size=16,
        component_size=4,
        distance_offset=15.0,
        distance_sharpness=0.1,
        tolerance=tolerance,
        critic_learning_rate=2e-3,
        actor_learning_rate=1e-3,
    )
    agent = on_the_line(QRL, world, config)
    state, _ = train(agent, jax.jit(agent.init)(jax.random.key(0)), world.buffer(), 2000)
    states, goals = (axis.ravel() for axis in np.meshgrid(range(4), range(4), indexing="ij"))
    one_hot = jnp.eye(4)
    distances = -np.asarray(jax.jit(agent.value)(state, one_hot[states], one_hot[goals])).reshape(4, 4)
    steps = world.steps_to_go
    assert np.all(distances > steps - 2.0 * tolerance)
    assert np.all(distances < (1.0 + 2.0 * tolerance) * steps + 2.0 * tolerance)
    assert np.all(best_actions_chosen(agent, state, world))


# ---- Options -----------------------------------------------------------------------------------------------


def outcome(agent):
    """Say what an agent makes of one batch: its losses, their pull on alpha and multipliers, and an action."""

    @jax.jit
    def look(state, batch, observation, goal):
        critic_loss, (excess, _) = agent.critic_loss(state.critic, state.log_multipliers, batch)
        actor_loss, metrics = agent.actor_loss(
            state.actor, state.critic, jnp.exp(state.log_alpha), batch, jax.random.key(1)
        )
        return {
            "critic_loss": critic_loss,
            "excess": excess,
            "actor_loss": actor_loss,
            "alpha_loss": gaussian_policy.alpha_loss(jnp.zeros(()), metrics["entropy"], agent.target_entropy),
            "best_of": agent.act(state, observation, goal, jax.random.key(2), "best_of"),
        }

    return look(first_state(agent), random_batch(16), normal(64, OBSERVATION), normal(64, GOAL, seed=1))


CRITIC = {"critic_loss", "excess", "actor_loss", "best_of"}
ACTOR = {"actor_loss", "alpha_loss", "best_of"}
OPTIONS = {
    "representation_size": (15, CRITIC),
    "component_size": (1, CRITIC),
    "distance_offset": (100.0, {"critic_loss"}),
    "distance_sharpness": (0.001, {"critic_loss"}),
    "tolerance": (1.0, {"excess"}),
    "initial_multiplier": (100.0, {"critic_loss"}),
    "dynamics_weight": (100.0, {"critic_loss"}),
    "hindsight": (1.0, {"actor_loss", "alpha_loss"}),
    "actor_depth": (4, ACTOR),
    "actor_width": (16, ACTOR),
    "critic_depth": (0, CRITIC),
    "critic_width": (16, CRITIC),
    "initial_alpha": (1.0, {"actor_loss"}),
    "target_entropy": (0.5, {"alpha_loss"}),
    "candidates": (2, {"best_of"}),
    "behaviour_cloning": (0.5, {"actor_loss"}),
}
# Shown by the step that moves every part by its own rate.
RATES = {"actor_learning_rate", "critic_learning_rate", "alpha_learning_rate", "multiplier_learning_rate"}


def test_every_option_is_listed_here():
    assert set(OPTIONS) | RATES == {field.name for field in dataclasses.fields(QRLConfig)}


@functools.cache
def default_outcome():
    return outcome(AGENT)


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_changes_what_it_says_and_nothing_else(option):
    value, expected = OPTIONS[option]
    assert getattr(AGENT.config, option) != value
    ours = outcome(qrl(**{option: value}))
    changed = {name for name, plain in default_outcome().items() if not np.allclose(ours[name], plain, rtol=1e-4)}
    assert changed == expected


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("representation_size", 4, "representation_size=4 must be a positive multiple of component_size=3"),
        ("component_size", 0, "component_size=0 must be at least 1"),
        ("distance_offset", 0.0, "distance_offset=0.0 must be above 0"),
        ("distance_sharpness", -1.0, "distance_sharpness=-1.0 must be above 0"),
        ("tolerance", 0.0, "tolerance=0.0 must be above 0"),
        ("initial_multiplier", 0.0, "initial_multiplier=0.0 must be above 0"),
        ("multiplier_learning_rate", 0.0, "multiplier_learning_rate=0.0 must be above 0"),
        ("dynamics_weight", float("nan"), "dynamics_weight=nan must be a finite number"),
        ("dynamics_weight", 0.0, "dynamics_weight=0.0 must be above 0"),
    ],
)
def test_impossible_settings_are_refused_by_name(option, value, message):
    with pytest.raises(ConfigurationError) as error:
        qrl(**{option: value})
    assert str(error.value) == message
