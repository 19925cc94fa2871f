"""An agent that grows acts and values as before, and learns with all of its new layers."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.agents import CRL, SAC, TD3, CRLConfig, OptimizerSettings, grow_agent
from kilolayer.agents.core.adam import AdamState
from kilolayer.data import Batch, Transitions
from kilolayer.nn import ResidualArchitecture, ResidualMLP

SCALED = ResidualArchitecture(residual_scaling="inverse_sqrt", scaled_for_depth=16)
SHALLOW = CRL(observation_size=4, goal_size=2, action_size=3, batch_size=32, depth=4, width=16)

act = jax.jit(CRL.act, static_argnums=0, static_argnames="mode")
value = jax.jit(CRL.value, static_argnums=0)
learn = jax.jit(lambda agent, *inputs: agent.learn(*inputs), static_argnums=0)
grow_jitted = jax.jit(grow_agent, static_argnums=0)


def deeper(agent, depth=16):
    return dataclasses.replace(agent, depth=depth)


def random_batch(size=32):
    rng = np.random.default_rng(0)
    arrays = (jnp.asarray(rng.standard_normal((size, n)), jnp.float32) for n in (4, 3, 2))
    observation, action, goal = arrays
    return Batch(observation=observation, action=jnp.tanh(action), desired_goal=goal)


def random_state(agent):
    """Return a state in which every number is random, Adam's moments and counts too."""
    rng = np.random.default_rng(1)

    def draw(leaf):
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            return leaf + 1234
        return leaf + jnp.asarray(0.3 * rng.random(leaf.shape), leaf.dtype)

    return jax.tree.map(draw, jax.jit(agent.init)(jax.random.key(0)))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(ResidualArchitecture(), id="plain", marks=pytest.mark.slow),
        pytest.param(SCALED, id="inverse_sqrt"),
    ],
)
def grown(request):
    """A shallow agent and its state, and both after growth."""
    agent = dataclasses.replace(SHALLOW, architecture=request.param)
    state = random_state(agent)
    return agent, state, deeper(agent), grow_jitted(deeper(agent), state, jax.random.key(5))


def networks(state):
    return {"actor": state.actor, "phi": state.critic.phi, "psi": state.critic.psi}


def test_growing_from_4_to_16_changes_no_action_and_no_value(grown):
    agent, state, deep, deep_state = grown
    assert {name: network.depth for name, network in networks(deep_state).items()} == dict.fromkeys(networks(state), 16)
    batch, key = random_batch(), jax.random.key(6)
    for mode in ("deterministic", "stochastic", "best_of"):
        before, after = (
            act(each, its_state, batch.observation, batch.desired_goal, key, mode=mode)
            for each, its_state in ((agent, state), (deep, deep_state))
        )
        np.testing.assert_allclose(after, before, rtol=0.0, atol=4e-7)  # within +-1
        assert np.std(before) > 0.01
    before, after = (
        value(each, its_state, batch.observation, batch.desired_goal)
        for each, its_state in ((agent, state), (deep, deep_state))
    )
    np.testing.assert_allclose(after, before, rtol=1e-6)


def test_a_new_deep_agent_is_another_function(grown):
    """What the test above compares would not agree by itself."""
    agent, state, deep, _ = grown
    batch = random_batch()
    fresh = jax.jit(deep.init)(jax.random.key(0))
    before, after = (
        value(each, its_state, batch.observation, batch.desired_goal)
        for each, its_state in ((agent, state), (deep, fresh))
    )
    assert np.abs(after - before).min() > 1e-3


def test_the_state_has_the_form_of_the_deep_agents_own(grown):
    _, _, deep, deep_state = grown
    expected = jax.eval_shape(deep.init, jax.random.key(0))
    assert jax.tree.structure(deep_state) == jax.tree.structure(expected)
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (deep_state, expected)]
    assert eqx.tree_equal(*shapes)


def test_optimisers_keep_what_they_remember_and_know_nothing_of_new_blocks(grown):
    _, state, _, deep_state = grown
    assert deep_state.log_alpha == state.log_alpha
    assert eqx.tree_equal(deep_state.optimizers["alpha"], state.optimizers["alpha"])
    for name in ("actor", "critic"):
        old, new = (each.optimizers[name][0] for each in (state, deep_state))
        pairs = list(zip(jax.tree.leaves((old.mu, old.nu)), jax.tree.leaves((new.mu, new.nu)), strict=True))
        stacked = 0
        for before, after in pairs:
            np.testing.assert_array_equal(after[: len(before)], before)
            if after.shape != before.shape:
                stacked += 1
                assert (len(before), len(after)) == (1, 4)
                assert not np.any(after[1:])
        assert stacked == (2 if name == "actor" else 4) * 4
        before, after = jax.tree.leaves(old.age), jax.tree.leaves(new.age)
        for one, other in zip(before, after, strict=True):
            assert set(np.unique(one)) == {1234}
            assert not np.any(other[len(one) :])


@pytest.mark.parametrize("steps", [1, 10, 100, 1000])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "muon"])
def test_parameters_that_join_later_step_as_those_of_a_new_optimiser(optimizer, steps):
    """A constant gradient moves every parameter by the learning rate in each step of Adam, however old it is."""
    settings = OptimizerSettings(name=optimizer)
    adam = settings.build(1e-2)
    torso = ResidualArchitecture().build(3, 2, depth=16, width=8, key=jax.random.key(0))
    gradient = jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.5), torso)
    state = jax.jit(adam.init)(torso)
    step = jax.jit(adam.update)

    def grown(node):
        """Return Adam's state after many steps, in which all blocks but the first are new."""
        if not isinstance(node, AdamState):
            return node
        parts = (
            jax.tree.map(lambda age: age + steps, node.age),
            jax.tree.map(lambda m: m + 0.5 * (1 - 0.9**steps), node.mu),
            jax.tree.map(lambda v: v + 0.25 * (1 - 0.999**steps), node.nu),
        )
        return AdamState(*map(_in_old_blocks, parts))

    fresh, state = state, jax.tree.map(grown, state, is_leaf=lambda node: isinstance(node, AdamState))
    for _ in range(3):
        expected, fresh = step(gradient, fresh, torso)
        updates, state = step(gradient, state, torso)
        np.testing.assert_allclose(updates.blocks.norm.offset[1:], expected.blocks.norm.offset[1:], rtol=1e-5)
        if optimizer != "muon":
            np.testing.assert_allclose(updates.blocks.norm.offset, -1e-2, rtol=2e-4)
            np.testing.assert_allclose(updates.blocks.dense.weight, -1e-2, rtol=2e-4)


def _in_old_blocks(tree):
    """Return a tree of the form of a torso with zeros in all blocks but the first."""
    return eqx.tree_at(lambda torso: torso.blocks, tree, jax.tree.map(lambda leaf: leaf.at[1:].set(0), tree.blocks))


def test_all_new_blocks_learn_from_the_next_steps(grown):
    _, _, deep, deep_state = grown
    state = deep_state
    for step in range(2):
        state, metrics = learn(deep, state, random_batch(), jax.random.key(step))
    assert all(np.isfinite(number) for number in metrics.values())
    for name, network in networks(state).items():
        for before, after in zip(
            jax.tree.leaves(networks(deep_state)[name].blocks), jax.tree.leaves(network.blocks), strict=True
        ):
            assert np.any(after[1:] != before[1:], axis=tuple(range(1, before.ndim))).all(), name


def test_only_networks_that_are_shallower_grow():
    agent = dataclasses.replace(SHALLOW, config=CRLConfig(actor_depth=8))
    state = random_state(agent)
    after = grow_jitted(deeper(agent), state, jax.random.key(5))
    assert eqx.tree_equal(after.actor, state.actor)
    assert (after.actor.depth, after.critic.phi.depth, after.critic.psi.depth) == (8, 16, 16)


# ---- Agents with target networks ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SAC, TD3])
def test_growing_changes_no_action_no_value_and_no_target_of_a_twin_critic(kind):
    agent = kind(4, 2, 3, batch_size=32, depth=4, width=16, success=jnp.array_equal)
    state, batch, key = random_state(agent), random_batch(), jax.random.key(6)
    deep = deeper(agent)
    deep_state = grow_jitted(deep, state, jax.random.key(5))
    found = [node for node in jax.tree.leaves(deep_state, is_leaf=is_network) if is_network(node)]
    assert {network.depth for network in found} == {16}
    # Networks, target networks, and the ages and both moments of Adam for each network that learns.
    assert len(found) == 3 + (3 if kind is TD3 else 2) + 3 * 3

    transitions = Transitions(
        observation=batch.observation,
        action=batch.action,
        desired_goal=batch.desired_goal,
        next_observation=batch.observation[::-1],
        next_achieved_goal=batch.desired_goal,
        next_desired_goal=batch.desired_goal,
        terminated=jnp.zeros(32, bool),
        known=jnp.ones(32, bool),
    )

    def look(agent, state):
        inputs = (state, batch.observation, batch.desired_goal)
        modes = ("deterministic", "stochastic", "best_of")
        looked = {mode: agent.act(*inputs, key, mode) for mode in modes}
        return looked | {"value": agent.value(*inputs), "target": agent.target(state, transitions, key)}

    before, after = (jax.jit(look, static_argnums=0)(*pair) for pair in ((agent, state), (deep, deep_state)))
    for name, numbers in before.items():
        np.testing.assert_allclose(after[name], numbers, rtol=1e-6, atol=1e-6, err_msg=name)
        assert np.std(numbers) > 0.01, name
    new, metrics = learn(deep, deep_state, transitions, key)
    assert all(np.isfinite(number) for number in metrics.values())
    assert np.any(new.critic.first.head.weight != deep_state.critic.first.head.weight)


def is_network(node):
    return isinstance(node, ResidualMLP)
