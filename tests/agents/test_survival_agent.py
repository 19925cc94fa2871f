"""Survival: its terms, its settings, and worlds in which the time of every arrival is known."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_worlds import Line, same_state

from kilolayer.agents import SRLConfig, Survival, SurvivalConfig
from kilolayer.nn import ResidualArchitecture
from kilolayer.objectives import survival
from kilolayer.runs import default_config

LINE = Line(num_states=5)
HORIZON = 8
TERMS = ("geometry", "separation", "occupancy", "failures")


def agent_for(kind=SurvivalConfig, batch_size=128, width=32, **config):
    """Return a small agent on the line, whose bins are steps."""
    settings = {"horizon": HORIZON, "bins": HORIZON, "spacing": "linear", "discount": 0.9, "hindsight_discount": 0.8}
    return Survival(
        observation_size=LINE.num_states,
        goal_size=LINE.num_states,
        action_size=1,
        batch_size=batch_size,
        depth=2,
        width=width,
        architecture=ResidualArchitecture(block_size=2),
        config=kind(**(settings | {"critic_learning_rate": 1e-3} | config)),
        success=same_state,
    )


def trained(agent, steps, **data):
    """Return a state that has learnt from what a behaviour did on the line."""
    buffer = LINE.buffer(**data)
    state = jax.jit(agent.init)(jax.random.key(0))

    @jax.jit
    def learn(state, keys):
        prepared = agent.prepare(state, buffer)
        return jax.lax.scan(lambda state, key: agent.update(state, prepared, key), state, keys)

    return learn(state, jax.random.split(jax.random.key(1), steps))[0]


def arrivals(agent, state):
    """Return P(T = k) for k = 0 ... horizon, by s, a, g."""
    observation, action, goal = map(jnp.asarray, LINE.everything())

    @jax.jit
    def probabilities(critic):
        hazards, _ = agent.readout(critic, *critic.encode(observation, action, goal))
        return survival.arrival_probabilities(hazards)[:, :-1]

    n = LINE.num_states
    return np.asarray(probabilities(state.critic)).reshape(n, 2, n, HORIZON + 1)


def exact_arrivals(right):
    """Return P(T = k) under a behaviour that moves right with a probability, by dynamic programming."""
    n = LINE.num_states
    mean = (1.0 - right) * LINE.transitions[0] + right * LINE.transitions[1]
    first = np.zeros((n, n, HORIZON + 1))  # P(T = k | s, g) before any action is known
    first[..., 0] = np.eye(n)
    for k in range(1, HORIZON + 1):
        first[..., k] = (1.0 - np.eye(n)) * (mean @ first[..., k - 1])
    found = np.zeros((n, 2, n, HORIZON + 1))
    found[..., 0] = np.eye(n)[:, None]
    for k in range(1, HORIZON + 1):
        found[..., k] = (1.0 - np.eye(n))[:, None] * np.einsum("ast,tg->sag", LINE.transitions, first[..., k - 1])
    return found


@pytest.mark.slow
def test_hazards_converge_to_the_arrival_times_of_a_random_walk():
    """Of goals that are drawn without looking at the future; goals in hindsight are reached sooner than others."""
    agent = agent_for(censoring="observed", random_goals=1.0, own_goals=0.0)
    found = arrivals(agent, trained(agent, 1500))
    expected = exact_arrivals(right=0.5)
    assert np.abs(found - expected).max() < 0.15
    assert np.abs(found - expected).mean() < 0.02


@pytest.mark.slow
def test_where_every_arrival_is_certain_so_is_its_time_and_embeddings_are_as_far_apart():
    def to_the_right(rng, states, goals):
        return np.full(states.shape, 0.5)

    # Separation would keep goals apart that are a step from each other.
    agent = agent_for(random_goals=0.0, own_goals=0.2, separation=False)
    state = trained(agent, 1500, behavior=to_the_right, episode_length=6, length=252)
    found = arrivals(agent, state)
    n = LINE.num_states
    for start in range(n):
        for goal in range(start, n):
            assert found[start, 1, goal, goal - start] > 0.8, (start, goal)
    observation, action, goal = map(jnp.asarray, LINE.everything())
    phi, psi = jax.jit(lambda critic: critic.encode(observation, action, goal))(state.critic)
    distance = np.linalg.norm(np.asarray(phi - psi), axis=-1).reshape(n, 2, n) / agent.config.step_distance
    for start in range(n):
        for goal in range(start + 1, n):
            assert distance[start, 1, goal] == pytest.approx(goal - start, abs=0.5)


@functools.cache
def batch():
    agent = agent_for(batch_size=16)
    buffer = LINE.buffer(num_envs=4, length=40, episode_length=10)
    return agent.draw(agent.prepare(None, buffer), jax.random.key(0))


@pytest.mark.parametrize("term", TERMS)
def test_each_term_can_be_switched_off(term):
    off = {term: False} | ({"failures": False} if term == "occupancy" else {})
    agent, plain = agent_for(**off), agent_for()
    state = jax.jit(agent.init)(jax.random.key(0))
    if term == "failures":  # it is the actor's, and counts where episodes fail
        rows = dataclasses.replace(batch(), failed=jnp.ones(16, bool))
        loss = [
            jax.jit(one.actor_loss)(state.actor, state.critic, jnp.ones(()), rows, jax.random.key(0))[0]
            for one in (agent, plain)
        ]
        assert loss[0] != loss[1]
        return
    metrics = jax.jit(agent.critic_loss)(state.critic, batch())[1]
    assert f"{term}_loss" not in metrics
    of_terms = [metrics[f"{name}_loss"] for name in ("hazard", *TERMS[:-1]) if f"{name}_loss" in metrics]
    np.testing.assert_allclose(metrics["critic_loss"], sum(of_terms), rtol=1e-6)


def test_srl_is_the_hazard_alone():
    agent = agent_for(SRLConfig)
    state = jax.jit(agent.init)(jax.random.key(0))
    metrics = jax.jit(agent.critic_loss)(state.critic, batch())[1]
    assert {name for name in metrics if name.endswith("_loss")} == {"critic_loss", "hazard_loss"}
    assert float(metrics["critic_loss"]) == float(metrics["hazard_loss"])


def test_a_chunk_that_crosses_an_end_is_masked():
    """What the critic makes of such a row changes no loss of it."""
    agent = agent_for(batch_size=16, action_chunk=3, separation=False)
    buffer = LINE.buffer(num_envs=4, length=40, episode_length=10)
    rows = agent.draw(agent.prepare(None, buffer), jax.random.key(3))
    crossing = ~np.asarray(rows.valid)
    assert 0 < crossing.sum() < 16
    state = jax.jit(agent.init)(jax.random.key(0))
    loss = jax.jit(lambda rows: agent.critic_loss(state.critic, rows)[0])
    other = dataclasses.replace(rows, action=jnp.where(crossing[:, None], 0.9, rows.action))
    np.testing.assert_array_equal(loss(other), loss(rows))
    changed = dataclasses.replace(rows, action=jnp.where(crossing[:, None], rows.action, 0.9))
    assert loss(changed) != loss(rows)


@pytest.mark.parametrize("agent", ["survival", "srl"])
def test_no_agent_looks_ahead_of_the_end_of_an_episode(agent):
    short, own = default_config("reacher", agent=agent), SurvivalConfig()
    assert short.episode_length == short.agent_settings.horizon == 100
    assert short.agent_settings.bins == own.bins
    assert short.agent_settings.discount == pytest.approx(0.99)
    tiny = default_config("reacher", agent=agent, episode_length=20).agent_settings
    assert (tiny.horizon, tiny.bins, tiny.discount) == (20, 20, pytest.approx(0.95))
    long = default_config("ant", agent=agent).agent_settings
    assert (long.horizon, long.bins, long.discount) == (own.horizon, own.bins, own.discount)
    asked = default_config("reacher", agent=agent, **{agent: {"horizon": 50, "bins": 10}}).agent_settings
    assert (asked.horizon, asked.bins) == (50, 10)
