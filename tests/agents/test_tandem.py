"""A tandem of an active and a passive agent: who acts when, and that neither changes the other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_data import ACTION, GOAL, OBSERVATION, normal, random_buffer, random_trajectory

from kilolayer.agents import (
    CRL,
    GCBC,
    Agent,
    NetworkSettings,
    Problem,
    Tandem,
    TandemState,
    agent_spec,
    agent_specs,
    make_agent,
)
from kilolayer.agents.core.tandem import PASSIVE

SHALLOW, DEEP = (CRL(OBSERVATION, GOAL, ACTION, batch_size=8, depth=depth, width=8) for depth in (0, 4))
AGENT = Tandem(passive=SHALLOW, active=DEEP)
KEY = jax.random.key(3)
PAIR = (normal(5, OBSERVATION), normal(5, GOAL, seed=1))


@pytest.fixture(scope="module")
def buffer():
    return random_buffer(random_trajectory())


@pytest.fixture(scope="module")
def state():
    return AGENT.init(KEY)


@pytest.fixture(scope="module")
def update(buffer):
    return jax.jit(lambda state, key: AGENT.update(state, AGENT.prepare(state, buffer), key))


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def moved(tree):
    """Return other parameters."""
    return jax.tree.map(lambda leaf: leaf + jnp.asarray(0.125, leaf.dtype) if leaf.dtype == jnp.float32 else leaf, tree)


def test_it_is_an_agent():
    assert isinstance(AGENT, Agent)
    assert AGENT.has_value
    assert not dataclasses.replace(AGENT, passive=GCBC(OBSERVATION, GOAL, ACTION)).has_value


def test_the_active_collects_and_the_learner_acts(state):
    collected = AGENT.collect(state, *PAIR, KEY)
    np.testing.assert_array_equal(collected, DEEP.act(state.active, *PAIR, KEY, "stochastic"))
    for mode in ("deterministic", "stochastic", "best_of"):
        acted = AGENT.act(state, *PAIR, KEY, mode)
        np.testing.assert_array_equal(acted, SHALLOW.act(state.passive, *PAIR, KEY, mode))
        assert np.all(acted != collected)
    other_passive = TandemState(moved(state.passive), state.active)
    np.testing.assert_array_equal(AGENT.collect(other_passive, *PAIR, KEY), collected)
    assert np.any(AGENT.act(other_passive, *PAIR, KEY) != AGENT.act(state, *PAIR, KEY))


def test_what_is_asked_of_an_agent_the_learner_answers(state):
    assert AGENT.actor(state) is state.passive.actor
    np.testing.assert_array_equal(AGENT.value(state, *PAIR), SHALLOW.value(state.passive, *PAIR))
    counts = AGENT.parameter_counts()
    assert {name: counts[name] for name in SHALLOW.parameter_counts()} == SHALLOW.parameter_counts()
    assert counts["active_phi"] == DEEP.parameter_counts()["phi"] > counts["phi"]


def test_agents_of_one_depth_are_drawn_apart():
    agent = Tandem(DEEP, DEEP)
    state = agent.init(KEY)
    weights = [jax.tree.leaves(one.actor.blocks.dense.weight) for one in (state.passive, state.active)]
    assert np.all(np.asarray(weights[0]) != np.asarray(weights[1]))
    assert_same(state.active, DEEP.init(KEY))


@pytest.mark.slow
def test_each_learns_bit_for_bit_as_if_it_were_alone(state, buffer, update):
    """On the same buffer and with the same keys, the active's being those that the pair is given."""
    shallow, deep = (jax.jit(lambda one, key, agent=agent: agent.update(one, buffer, key)) for agent in (SHALLOW, DEEP))
    both, passive, active = state, state.passive, state.active
    for number in range(3):
        key = jax.random.fold_in(KEY, number)
        both, metrics = update(both, key)
        passive, of_passive = shallow(passive, jax.random.fold_in(key, PASSIVE))
        active, of_active = deep(active, key)
        assert_same(metrics, of_passive | {f"active_{name}": value for name, value in of_active.items()})
    assert_same(both, TandemState(passive, active))
    assert np.any(both.passive.actor.head.weight != state.passive.actor.head.weight)


def test_neither_touches_the_other(state, update):
    """Whatever one has learnt, the other learns the same."""
    after, _ = update(state, KEY)
    other_passive, _ = update(TandemState(moved(state.passive), state.active), KEY)
    other_active, _ = update(TandemState(state.passive, moved(state.active)), KEY)
    assert_same(other_passive.active, after.active)
    assert_same(other_active.passive, after.passive)
    assert np.any(other_passive.passive.critic.phi.head.weight != after.passive.critic.phi.head.weight)
    assert np.any(other_active.active.critic.phi.head.weight != after.active.critic.phi.head.weight)


QUICK = ("crl", "sac")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(spec.name, marks=[] if spec.name in QUICK else [pytest.mark.slow])
        for spec in agent_specs()
        if not spec.on_policy
    ],
)
def test_every_off_policy_agent_can_be_passive(name, buffer):
    problem = Problem(
        name="random",
        observation_size=OBSERVATION,
        goal_size=GOAL,
        action_size=ACTION,
        episode_length=20,
        unroll_length=10,
        discrete_actions=agent_spec(name).discrete,
        success=lambda achieved, desired: jnp.linalg.norm(achieved - desired, axis=-1) < 0.5,
    )
    agent = Tandem(
        *(make_agent(name, problem, agent_spec(name).settings(), NetworkSettings(8, depth, 8)) for depth in (0, 4))
    )
    assert agent.collect(agent.init(KEY), *PAIR, KEY).shape == (5, ACTION)

    @jax.jit
    def begin_and_learn(key):
        state = agent.init(key)
        return state, *agent.update(state, agent.prepare(state, buffer), key)

    before, after, metrics = begin_and_learn(KEY)
    for old, new in ((before.passive, after.passive), (before.active, after.active)):
        assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True))
    of_passive = {metric for metric in metrics if not metric.startswith("active_")}
    assert set(metrics) == of_passive | {f"active_{metric}" for metric in of_passive}
    assert all(np.isfinite(value) for value in metrics.values())
