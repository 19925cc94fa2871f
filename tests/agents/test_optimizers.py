"""Optimisers: each kind takes finite steps with every agent's networks, schedules and clipping do what they say."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from random_data import ACTION, GOAL, OBSERVATION, random_buffer, random_trajectory

from kilolayer.agents import CRL, CRLConfig, OptimizerSettings, grow_agent
from kilolayer.agents.core.optimizers import is_weight
from kilolayer.errors import ConfigurationError


def crl(depth: int = 4, **settings) -> CRL:
    return CRL(OBSERVATION, GOAL, ACTION, batch_size=8, depth=depth, width=8, optimizer=OptimizerSettings(**settings))


def steps(agent: CRL, count: int = 3):
    """Return the state before, the state after some gradient steps, and the metrics of the last."""
    buffer = random_buffer(random_trajectory())
    before = after = jax.jit(agent.init)(jax.random.key(0))
    update = jax.jit(agent.update)
    for number in range(count):
        after, metrics = update(after, buffer, jax.random.key(number))
    return before, after, metrics


@functools.cache
def plain_steps():
    """Return the state after the same steps by the default optimiser."""
    return steps(crl())[1]


KINDS = [
    pytest.param({}, marks=pytest.mark.slow),
    pytest.param({"name": "adamw", "weight_decay": 0.1}, marks=pytest.mark.slow),
    {"name": "muon", "weight_decay": 0.1},
    pytest.param({"warmup_steps": 2}, marks=pytest.mark.slow),
    pytest.param({"schedule": "cosine", "decay_steps": 10, "warmup_steps": 2}, marks=pytest.mark.slow),
    {"max_gradient_norm": 0.01},
]


@pytest.mark.parametrize("settings", KINDS, ids=lambda settings: "-".join(map(str, settings.values())) or "adam")
def test_each_takes_finite_steps_and_changes_what_adam_does(settings):
    before, after, metrics = steps(crl(**settings))
    assert all(np.isfinite(value) for value in metrics.values())
    for part in ("actor", "critic", "log_alpha"):
        leaves = zip(jax.tree.leaves(getattr(before, part)), jax.tree.leaves(getattr(after, part)), strict=True)
        assert any(np.any(a != b) for a, b in leaves), part
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(getattr(after, part)))
    if settings:
        plain = plain_steps()
        assert np.any(after.actor.head.weight != plain.actor.head.weight)
        # A single number is updated by plain Adam, whatever the networks take; its gradient alone may differ.
        assert jax.tree.structure(after.optimizers["alpha"]) == jax.tree.structure(plain.optimizers["alpha"])


def test_the_default_is_optax_adam():
    agent = crl()
    state = agent.init(jax.random.key(0))
    gradient = jax.tree.map(jnp.ones_like, state.actor)
    ours, _ = agent.descend("actor", state.actor, gradient, state.optimizers)
    adam = optax.adam(agent.config.actor_learning_rate)
    updates, _ = adam.update(gradient, adam.init(state.actor))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(optax.apply_updates(state.actor, updates)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_each_part_has_its_own_rate():
    agent = CRL(OBSERVATION, GOAL, ACTION, width=8, config=CRLConfig(actor_learning_rate=0.1, critic_learning_rate=0.2))
    state = agent.init(jax.random.key(0))
    for part, rate in (("actor", 0.1), ("critic", 0.2), ("log_alpha", 3e-4)):
        before = getattr(state, part)
        after, _ = agent.descend(
            part.removeprefix("log_"), before, jax.tree.map(jnp.ones_like, before), state.optimizers
        )
        moves = [np.abs(a - b).max() for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)]
        np.testing.assert_allclose(moves, rate, rtol=1e-3)


def test_weight_decay_and_orthogonal_updates_are_for_weight_matrices_alone():
    actor = crl().init(jax.random.key(0)).actor
    marked = is_weight(actor)
    assert all((marked.head.weight, marked.blocks.dense.weight, marked.input_layer.dense.weight))
    assert not any((marked.head.bias, marked.blocks.norm.scale, marked.blocks.norm.offset))


def test_an_update_of_muon_has_singular_values_of_one_size():
    agent = crl(name="muon")
    state = agent.init(jax.random.key(0))
    gradient = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(1), leaf.shape), state.actor)
    after, _ = agent.descend("actor", state.actor, gradient, state.optimizers)
    update = np.asarray(after.blocks.dense.weight - state.actor.blocks.dense.weight)
    values = np.linalg.svd(update, compute_uv=False)  # of each layer of each block
    assert values.shape == (1, 4, 8)
    assert np.all(values.max(axis=-1) / values.min(axis=-1) < 3.0)


def test_a_schedule_is_the_rate_over_steps():
    warm = OptimizerSettings(warmup_steps=10).learning_rate(1.0)
    assert [float(warm(step)) for step in (0, 5, 10, 1000)] == [0.0, 0.5, 1.0, 1.0]
    cosine = OptimizerSettings(schedule="cosine", decay_steps=100, final_share=0.1).learning_rate(2.0)
    np.testing.assert_allclose([cosine(0), cosine(50), cosine(100), cosine(1000)], [2.0, 1.1, 0.2, 0.2], rtol=1e-6)
    assert OptimizerSettings().learning_rate(0.5) == 0.5


@pytest.mark.parametrize("name", [pytest.param("adamw", marks=pytest.mark.slow), "muon"])
def test_networks_grow_with_every_optimiser(name):
    shallow, deep = crl(name=name), crl(depth=8, name=name)
    _, state, _ = steps(shallow)
    grown = jax.jit(lambda state, key: grow_agent(deep, state, key))(state, jax.random.key(1))
    expected = jax.eval_shape(deep.init, jax.random.key(0))
    assert jax.tree.structure(grown) == jax.tree.structure(expected)
    pair = jnp.ones((3, OBSERVATION)), jnp.ones((3, GOAL))
    np.testing.assert_array_equal(
        deep.act(grown, *pair, jax.random.key(2)), shallow.act(state, *pair, jax.random.key(2))
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "sgd"}, "name='sgd' is unknown; choose one of adam, adamw, muon"),
        ({"weight_decay": 0.1}, "weight_decay=0.1 has no effect with name='adam'; take adamw"),
        ({"schedule": "cosine"}, "schedule='cosine' needs decay_steps"),
        ({"decay_steps": 5}, "no effect with schedule='constant'"),
        ({"schedule": "cosine", "decay_steps": 5, "warmup_steps": 5}, "decay_steps=5 must be above warmup_steps=5"),
        ({"schedule": "cosine", "decay_steps": 5, "final_share": 1.5}, "final_share=1.5 must be from 0 to 1"),
        ({"warmup_steps": -1}, "warmup_steps=-1 must not be negative"),
        ({"max_gradient_norm": 0.0}, "max_gradient_norm=0.0 must be above 0"),
        ({"weight_decay": float("nan"), "name": "adamw"}, "weight_decay=nan must be a finite number"),
    ],
)
def test_settings_that_are_not_valid_are_refused_in_one_line(settings, message, no_type_checks):
    with pytest.raises(ConfigurationError) as error:
        OptimizerSettings(**settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
