"""SAC's equations and options. What it shares with TD3 is tested beside that, in test_twin_critic.py."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import twin_critic_cases as cases
from reference_adam import ReferenceAdam
from twin_critic_cases import ACTION, agent_with, in_float64, join, learn, random_batch, random_state

from kilolayer.agents import SAC, SACConfig
from kilolayer.agents.sac import SACState
from kilolayer.errors import ConfigurationError

AGENT = agent_with(SAC)


# ---- Learning ----------------------------------------------------------------------------------------------


def written_out_step(state, batch, key):
    """Take the steps of critics, actor and alpha, and move the target critics, all written out for the defaults."""
    adam = ReferenceAdam(3e-4)
    alpha = jnp.exp(state.log_alpha)
    target_key, actor_key = jax.random.split(key)

    def draw(actor, observation, goal, key):
        output = actor(join(observation, goal))
        mean, raw = output[:, :ACTION], output[:, ACTION:]
        log_std = -5.0 + 3.5 * (jnp.tanh(raw) + 1.0)
        noise = jax.random.normal(key, mean.shape, mean.dtype)
        action = jnp.tanh(mean + jnp.exp(log_std) * noise)
        density = jax.scipy.stats.norm.logpdf(noise) - log_std - jnp.log(1.0 - action**2 + 1e-6)
        return action, jnp.sum(density, axis=-1)

    def lower(critic, *inputs):
        return jnp.minimum(critic.first(join(*inputs))[:, 0], critic.second(join(*inputs))[:, 0])

    action, density = draw(state.actor, batch.next_observation, batch.next_desired_goal, target_key)
    q = lower(state.target_critic, batch.next_observation, action, batch.next_desired_goal)
    target = cases.sparse_target(batch, q - alpha * density, 0.99)
    gradient = jax.grad(cases.squared_error)(state.critic, batch, target)
    updates, critic_optimizer = adam.update(gradient, state.optimizers["critic"])
    critic = optax.apply_updates(state.critic, updates)

    def actor_loss(actor):
        action, density = draw(actor, batch.observation, batch.desired_goal, actor_key)
        q = lower(state.critic, batch.observation, action, batch.desired_goal)
        return jnp.mean(alpha * density - q), -jnp.mean(density)

    gradient, entropy = jax.grad(actor_loss, has_aux=True)(state.actor)
    updates, actor_optimizer = adam.update(gradient, state.optimizers["actor"])
    actor = optax.apply_updates(state.actor, updates)

    gradient = jax.grad(lambda log_alpha: jnp.exp(log_alpha) * (entropy + 0.5 * ACTION))(state.log_alpha)
    updates, alpha_optimizer = adam.update(gradient, state.optimizers["alpha"])

    return SACState(
        actor=actor,
        critic=critic,
        target_critic=jax.tree.map(lambda old, new: 0.995 * old + 0.005 * new, state.target_critic, critic),
        log_alpha=state.log_alpha + updates,
        optimizers={"actor": actor_optimizer, "critic": critic_optimizer, "alpha": alpha_optimizer},
    )


def test_a_step_is_the_one_written_out(x64):
    state, batch, key = in_float64(random_state(AGENT)), in_float64(random_batch()), jax.random.key(7)
    ours, _ = learn(AGENT, state, batch, key)
    cases.assert_trees_close(ours, jax.jit(written_out_step)(state, batch, key), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_alpha_is_moved_by_its_own_learning_rate_towards_the_target_entropy():
    state, batch = jax.jit(AGENT.init)(jax.random.key(0)), random_batch()
    for target, rate, direction in ((50.0, 2e-3, 1.0), (-50.0, 2e-3, -1.0), (50.0, 0.0, 0.0)):
        agent = agent_with(SAC, target_entropy=target, alpha_learning_rate=rate)
        new, metrics = learn(agent, state, batch, jax.random.key(0))
        assert metrics["alpha"] == 1.0
        # Adam's first step is the learning rate, whatever the gradient.
        assert float(new.log_alpha) == pytest.approx(direction * rate, rel=1e-3)


def test_the_actor_loss_weighs_density_by_alpha():
    state, batch, key = random_state(AGENT), random_batch(), jax.random.key(0)
    loss = jax.jit(lambda alpha: AGENT.actor_loss(state.actor, state.critic, alpha, batch, key))
    (at_zero, metrics), (at_two, _) = loss(jnp.array(0.0)), loss(jnp.array(2.0))
    assert float(at_zero) == pytest.approx(-float(metrics["actor_value"]), rel=1e-5)
    assert float(at_two - at_zero) == pytest.approx(-2.0 * float(metrics["entropy"]), rel=1e-4)


# ---- Options -----------------------------------------------------------------------------------------------

OPTIONS = cases.OPTIONS | {"initial_alpha": (0.1, {"target"})}
# Shown by the test of alpha above.
OF_ALPHA = {"alpha_learning_rate", "target_entropy"}


def test_every_option_is_listed_here():
    names = {field.name for field in dataclasses.fields(SACConfig)}
    assert set(OPTIONS) | cases.LEARNING_RATES | OF_ALPHA == names


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_changes_what_it_says_and_nothing_else(option):
    value, expected = OPTIONS[option]
    assert cases.changed_by(SAC, option, value) == expected


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("initial_alpha", 0.0, "initial_alpha=0.0 must be above 0"),
        ("alpha_learning_rate", -1e-3, "alpha_learning_rate=-0.001 must not be negative"),
        ("target_entropy", float("nan"), "target_entropy=nan must be a finite number"),
    ],
)
def test_impossible_settings_are_refused_by_name(no_type_checks, option, value, message):
    with pytest.raises(ConfigurationError) as error:
        agent_with(SAC, **{option: value})
    assert str(error.value) == message


def test_alpha_begins_where_it_is_set():
    state = jax.jit(agent_with(SAC, initial_alpha=0.2).init)(jax.random.key(0))
    np.testing.assert_allclose(np.exp(state.log_alpha), 0.2, rtol=1e-6)
