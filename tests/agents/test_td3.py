"""TD3's equations and options. What it shares with SAC is tested beside that, in test_twin_critic.py."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import twin_critic_cases as cases
from reference_adam import ReferenceAdam
from twin_critic_cases import GOAL, OBSERVATION, agent_with, in_float64, join, learn, normal, random_batch, random_state

from kilolayer.agents import TD3, TD3Config
from kilolayer.errors import ConfigurationError

AGENT = agent_with(TD3)


# ---- Learning ----------------------------------------------------------------------------------------------


def written_out_step(state, batch, key, *, moves_actor):
    """Take the step of the critics and, if it is its turn, those of the actor and of the target networks."""
    adam = ReferenceAdam(3e-4)
    noise = jnp.clip(0.2 * jax.random.normal(key, batch.action.shape, batch.action.dtype), -0.5, 0.5)
    action = jnp.tanh(state.target_actor(join(batch.next_observation, batch.next_desired_goal)))
    inputs = join(batch.next_observation, jnp.clip(action + noise, -1.0, 1.0), batch.next_desired_goal)
    q = jnp.minimum(state.target_critic.first(inputs)[:, 0], state.target_critic.second(inputs)[:, 0])
    target = cases.sparse_target(batch, q, 0.99)
    gradient = jax.grad(cases.squared_error)(state.critic, batch, target)
    updates, critic_optimizer = adam.update(gradient, state.optimizers["critic"])
    critic = optax.apply_updates(state.critic, updates)
    state = dataclasses.replace(
        state,
        critic=critic,
        optimizers=state.optimizers | {"critic": critic_optimizer},
        steps=jnp.asarray(state.steps + 1, jnp.int32),
    )
    if not moves_actor:
        return state

    def actor_loss(actor):
        action = jnp.tanh(actor(join(batch.observation, batch.desired_goal)))
        return -jnp.mean(critic.first(join(batch.observation, action, batch.desired_goal)))

    loss, gradient = jax.value_and_grad(actor_loss)(state.actor)
    updates, actor_optimizer = adam.update(gradient, state.optimizers["actor"])
    actor = optax.apply_updates(state.actor, updates)

    def follow(slow, fast):
        return jax.tree.map(lambda old, new: 0.995 * old + 0.005 * new, slow, fast)

    return dataclasses.replace(
        state,
        actor=actor,
        target_actor=follow(state.target_actor, actor),
        target_critic=follow(state.target_critic, critic),
        optimizers=state.optimizers | {"actor": actor_optimizer},
        actor_loss=loss,
    )


@pytest.mark.slow
def test_steps_are_those_written_out_with_the_actor_in_every_second(x64):
    state, expected = in_float64(random_state(AGENT)), in_float64(random_state(AGENT))
    step = jax.jit(written_out_step, static_argnames="moves_actor")
    for turn, moves_actor in enumerate((False, True, False, True)):
        batch, key = in_float64(random_batch(seed=10 * turn)), jax.random.key(turn)
        before = state
        state, metrics = learn(AGENT, state, batch, key)
        expected = step(expected, batch, key, moves_actor=moves_actor)
        cases.assert_trees_close(state, expected, rtol=1e-9, atol=1e-12)
        assert bool(jnp.any(state.actor.head.bias != before.actor.head.bias)) == moves_actor
        assert metrics["actor_loss"] == state.actor_loss


@pytest.mark.parametrize("delay", [1, 3])
def test_the_actor_and_all_target_networks_wait_for_their_turn(delay):
    agent = agent_with(TD3, policy_delay=delay)
    state, moved = random_state(agent), []
    for turn in range(4):
        before = state
        state, _ = learn(agent, state, random_batch(), jax.random.key(turn))
        pairs = (
            (new.head.weight, old.head.weight)
            for new, old in (
                (state.actor, before.actor),
                (state.target_actor, before.target_actor),
                (state.target_critic.first, before.target_critic.first),
                (state.target_critic.second, before.target_critic.second),
            )
        )
        moved.append({bool(jnp.any(new != old)) for new, old in pairs})
        assert jnp.any(state.critic.first.head.weight != before.critic.first.head.weight)
    assert moved == [{(turn + 1) % delay == 0} for turn in range(4)]


def test_the_noise_on_target_actions_is_clipped():
    """With hardly any room for the noise, the target is that without noise."""
    state, batch, key = random_state(AGENT), random_batch(), jax.random.key(0)
    silent, clipped, loud = (
        jax.jit(agent_with(TD3, smoothing_noise=noise, smoothing_clip=clip).target)(state, batch, key)
        for noise, clip in ((0.0, 0.5), (5.0, 1e-6), (5.0, 0.5))
    )
    np.testing.assert_allclose(clipped, silent, rtol=1e-4)
    assert not np.allclose(loud, silent, rtol=1e-3)


# ---- Acting ------------------------------------------------------------------------------------------------


def test_exploration_adds_noise_of_the_deviation_that_is_set():
    agent = agent_with(TD3, exploration_noise=0.05)
    state, observation, goal = random_state(agent), normal(OBSERVATION), normal(GOAL, seed=1)
    many = (jnp.broadcast_to(observation, (20_000, OBSERVATION)), jnp.broadcast_to(goal, (20_000, GOAL)))
    plain = cases.act(agent, state, observation, goal, jax.random.key(0))
    noisy = cases.act(agent, state, *many, jax.random.key(0), mode="stochastic")
    inside = np.abs(plain) < 0.8
    assert inside.any()
    np.testing.assert_allclose(np.mean(noisy - plain, axis=0)[inside], 0.0, atol=2e-3)
    np.testing.assert_allclose(np.std(noisy, axis=0)[inside], 0.05, rtol=0.03)


# ---- Options -----------------------------------------------------------------------------------------------

OPTIONS = cases.OPTIONS | {
    "exploration_noise": (0.3, {"stochastic", "best_of"}),
    "smoothing_noise": (0.4, {"target"}),
    "smoothing_clip": (0.1, {"target"}),
    "policy_delay": (1, {"actor_moves_first"}),
}


def test_every_option_is_listed_here():
    assert set(OPTIONS) | cases.LEARNING_RATES == {field.name for field in dataclasses.fields(TD3Config)}


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_changes_what_it_says_and_nothing_else(option):
    value, expected = OPTIONS[option]
    assert cases.changed_by(TD3, option, value) == expected


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("exploration_noise", -0.1, "exploration_noise=-0.1 must not be negative"),
        ("smoothing_noise", -0.1, "smoothing_noise=-0.1 must not be negative"),
        ("smoothing_noise", float("inf"), "smoothing_noise=inf must be a finite number"),
        ("smoothing_clip", 0.0, "smoothing_clip=0.0 must be above 0"),
        ("policy_delay", 0, "policy_delay=0 must be at least 1"),
    ],
)
def test_impossible_settings_are_refused_by_name(no_type_checks, option, value, message):
    with pytest.raises(ConfigurationError) as error:
        agent_with(TD3, **{option: value})
    assert str(error.value) == message
