"""A collector and a learner that looks on: who acts when, and that neither touches the other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_data import ACTION, GOAL, OBSERVATION, normal, random_buffer, random_trajectory

from kilolayer.agents import (
    AGENTS,
    BLOCKS,
    CRL,
    GCBC,
    Agent,
    NetworkSettings,
    Onlooker,
    OnlookerState,
    Problem,
    make_agent,
)
from kilolayer.agents.core.tandem import LEARNER
from kilolayer.runs import TrainConfig

pytestmark = pytest.mark.usefixtures("quick_compilation")

SHALLOW, DEEP = (CRL(OBSERVATION, GOAL, ACTION, batch_size=8, depth=depth, width=8) for depth in (0, 4))
AGENT = Onlooker(learner=SHALLOW, collector=DEEP)
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
    assert not dataclasses.replace(AGENT, learner=GCBC(OBSERVATION, GOAL, ACTION)).has_value


def test_the_collector_collects_and_the_learner_acts(state):
    collected = AGENT.collect(state, *PAIR, KEY)
    np.testing.assert_array_equal(collected, DEEP.act(state.collector, *PAIR, KEY, "stochastic"))
    for mode in ("deterministic", "stochastic", "best_of"):
        acted = AGENT.act(state, *PAIR, KEY, mode)
        np.testing.assert_array_equal(acted, SHALLOW.act(state.learner, *PAIR, KEY, mode))
        assert np.all(acted != collected)
    other_learner = OnlookerState(moved(state.learner), state.collector)
    np.testing.assert_array_equal(AGENT.collect(other_learner, *PAIR, KEY), collected)
    assert np.any(AGENT.act(other_learner, *PAIR, KEY) != AGENT.act(state, *PAIR, KEY))


def test_what_is_asked_of_an_agent_the_learner_answers(state):
    assert AGENT.actor(state) is state.learner.actor
    np.testing.assert_array_equal(AGENT.value(state, *PAIR), SHALLOW.value(state.learner, *PAIR))
    counts = AGENT.parameter_counts()
    assert {name: counts[name] for name in SHALLOW.parameter_counts()} == SHALLOW.parameter_counts()
    assert counts["collector_phi"] == DEEP.parameter_counts()["phi"] > counts["phi"]


def test_agents_of_one_depth_are_drawn_apart():
    agent = Onlooker(DEEP, DEEP)
    state = agent.init(KEY)
    weights = [jax.tree.leaves(one.actor.blocks.dense.weight) for one in (state.learner, state.collector)]
    assert np.all(np.asarray(weights[0]) != np.asarray(weights[1]))
    assert_same(state.collector, DEEP.init(KEY))


def test_each_learns_bit_for_bit_as_if_it_were_alone(state, buffer, update):
    """On the same buffer and with the same keys, the collector's being those that the pair is given."""
    shallow, deep = (jax.jit(lambda one, key, agent=agent: agent.update(one, buffer, key)) for agent in (SHALLOW, DEEP))
    both, learner, collector = state, state.learner, state.collector
    for number in range(3):
        key = jax.random.fold_in(KEY, number)
        both, metrics = update(both, key)
        learner, of_learner = shallow(learner, jax.random.fold_in(key, LEARNER))
        collector, of_collector = deep(collector, key)
        assert_same(metrics, of_learner | {f"collector_{name}": value for name, value in of_collector.items()})
    assert_same(both, OnlookerState(learner, collector))
    assert np.any(both.learner.actor.head.weight != state.learner.actor.head.weight)


def test_neither_touches_the_other(state, update):
    """Whatever one has learnt, the other learns the same."""
    after, _ = update(state, KEY)
    other_learner, _ = update(OnlookerState(moved(state.learner), state.collector), KEY)
    other_collector, _ = update(OnlookerState(state.learner, moved(state.collector)), KEY)
    assert_same(other_learner.collector, after.collector)
    assert_same(other_collector.learner, after.learner)
    assert np.any(other_learner.learner.critic.phi.head.weight != after.learner.critic.phi.head.weight)
    assert np.any(other_collector.collector.critic.phi.head.weight != after.collector.critic.phi.head.weight)


QUICK = ("crl", "sac")
SETTINGS = {block: getattr(TrainConfig(), block) for block in BLOCKS}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name, spec in AGENTS.items()
        if not spec.on_policy
    ],
)
def test_every_agent_that_learns_from_others_data_can_look_on(name, buffer):
    problem = Problem(
        name="random",
        observation_size=OBSERVATION,
        goal_size=GOAL,
        action_size=ACTION,
        episode_length=20,
        unroll_length=10,
        discrete_actions=AGENTS[name].discrete,
        success=lambda achieved, desired: jnp.linalg.norm(achieved - desired, axis=-1) < 0.5,
    )
    agent = Onlooker(*(make_agent(name, problem, SETTINGS, NetworkSettings(8, depth, 8)) for depth in (0, 4)))
    assert agent.collect(agent.init(KEY), *PAIR, KEY).shape == (5, ACTION)

    @jax.jit
    def begin_and_learn(key):
        state = agent.init(key)
        return state, *agent.update(state, agent.prepare(state, buffer), key)

    before, after, metrics = begin_and_learn(KEY)
    for old, new in ((before.learner, after.learner), (before.collector, after.collector)):
        assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True))
    of_learner = {metric for metric in metrics if not metric.startswith("collector_")}
    assert set(metrics) == of_learner | {f"collector_{metric}" for metric in of_learner}
    assert all(np.isfinite(value) for value in metrics.values())
