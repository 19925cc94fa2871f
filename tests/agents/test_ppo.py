"""PPO: what it makes of an unroll, its losses, its minibatches, and that it learns the best policy of a tiny world."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from random_data import ACTION, GOAL, OBSERVATION, normal, random_buffer, random_trajectory
from tiny_worlds import Line, same_state

from kilolayer.agents import PPO, PPOConfig
from kilolayer.data import empty_buffer, insert
from kilolayer.errors import ConfigurationError
from kilolayer.nn import ResidualArchitecture

UNROLL, NUM_ENVS, BATCH = 16, 3, 12


def near(achieved_goal, desired_goal):
    return jnp.linalg.norm(achieved_goal - desired_goal) < 1.5


def agent_with(
    batch_size=BATCH, depth=0, width=8, unroll_length=UNROLL, sizes=(OBSERVATION, GOAL, ACTION), success=near, **config
):
    observation_size, goal_size, action_size = sizes
    return PPO(
        observation_size=observation_size,
        goal_size=goal_size,
        action_size=action_size,
        batch_size=batch_size,
        depth=depth,
        width=width,
        architecture=ResidualArchitecture(block_size=2),
        config=PPOConfig(**config),
        success=success,
        unroll_length=unroll_length,
    )


AGENT = agent_with(normalize_advantages=False)


@functools.cache
def first_state(agent=AGENT):
    return jax.jit(agent.init)(jax.random.key(3))


@functools.cache
def trajectory():
    return random_trajectory(24, NUM_ENVS)


@functools.cache
def buffer():
    return random_buffer(trajectory(), capacity=20)  # the newest 16 of 24 steps lie across its end


prepare = jax.jit(lambda agent, *arguments: agent.prepare(*arguments), static_argnums=0)
minibatch = jax.jit(lambda agent, *arguments: agent.minibatch(*arguments), static_argnums=0)
update = jax.jit(lambda agent, *arguments: agent.update(*arguments), static_argnums=0)


@functools.cache
def unroll(agent=AGENT):
    return prepare(agent, first_state(agent), buffer())


# ---- Acting ------------------------------------------------------------------------------------------------


def test_actions_lie_within_one_whatever_the_leading_axes():
    pairs = [(100.0 * normal(*shape, OBSERVATION), 100.0 * normal(*shape, GOAL)) for shape in [(), (5,), (2, 3)]]

    @jax.jit
    def everything(state, pairs, key):
        return [[AGENT.act(state, *pair, key, mode) for mode in ("deterministic", "stochastic")] for pair in pairs]

    for (observation, _), both in zip(pairs, everything(first_state(), pairs, jax.random.key(0)), strict=True):
        for actions in both:
            assert actions.shape == (*observation.shape[:-1], ACTION)
            assert np.all(np.abs(actions) <= 1.0)
            assert len(np.unique(actions)) > 1


def test_the_deterministic_action_is_the_tanh_of_the_actors_first_outputs_and_the_value_the_critics():
    pair = normal(5, OBSERVATION), normal(5, GOAL, seed=1)
    inputs = jnp.concatenate(pair, axis=-1)
    output = AGENT.actor(first_state())(inputs)
    action = AGENT.act(first_state(), *pair, jax.random.key(0))
    np.testing.assert_allclose(action, np.tanh(output[:, :ACTION]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(AGENT.value(first_state(), *pair), first_state().critic(inputs)[:, 0], rtol=1e-6)


def test_best_of_is_refused_for_want_of_a_critic_of_actions(no_type_checks):
    for mode, message in [("best_of", "'best_of' needs a critic of actions"), ("greedy", "'greedy' is unknown")]:
        with pytest.raises(ConfigurationError, match=message):
            AGENT.act(first_state(), normal(OBSERVATION), normal(GOAL), jax.random.key(0), mode)


# ---- What happened -----------------------------------------------------------------------------------------


def newest(name):
    return np.asarray(getattr(trajectory(), name))[-UNROLL:]


def written_out_advantages(value, *, discount, gae_lambda):
    """Return rewards, advantages and whether they are known, step by step from the end of every environment."""
    done, terminated = newest("done"), newest("terminated")
    achieved, desired = newest("achieved_goal"), newest("desired_goal")
    reward, advantage, known = (np.zeros(done.shape) for _ in range(3))
    for env in range(NUM_ENVS):
        for time in reversed(range(UNROLL)):
            if terminated[time, env]:
                known[time, env], advantage[time, env] = 1.0, -value[time, env]
            elif not done[time, env] and time + 1 < UNROLL:
                known[time, env] = 1.0
                reward[time, env] = np.linalg.norm(achieved[time + 1, env] - desired[time + 1, env]) < 1.5
                error = reward[time, env] + discount * value[time + 1, env] - value[time, env]
                advantage[time, env] = error + discount * gae_lambda * advantage[time + 1, env]
    return reward, advantage, known.astype(bool)


def test_advantages_are_those_of_a_loop_over_steps_with_truncations_and_failures():
    agent = agent_with(normalize_advantages=False, discount=0.9, gae_lambda=0.7)
    state = first_state(agent)
    found = unroll(agent).experience
    inputs = jnp.concatenate([jnp.asarray(newest("observation")), jnp.asarray(newest("desired_goal"))], axis=-1)
    value = np.asarray(state.critic(inputs))[..., 0]
    reward, advantage, known = written_out_advantages(value, discount=0.9, gae_lambda=0.7)
    assert known.any()
    assert newest("terminated").sum() > 1
    assert (newest("done") & ~newest("terminated")).sum() > 1
    assert 0.2 < reward[known].mean() < 0.8
    for name in ("observation", "desired_goal", "action"):
        np.testing.assert_array_equal(getattr(found, name), newest(name).reshape(UNROLL * NUM_ENVS, -1))
    np.testing.assert_array_equal(found.known, known.ravel())
    np.testing.assert_array_equal(found.reward, reward.ravel())
    np.testing.assert_allclose(found.advantage, advantage.ravel(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.value_target, (advantage + value).ravel(), rtol=1e-4, atol=1e-5)


def test_advantages_of_a_round_are_normalised_over_the_known_steps():
    plain, normal_ = unroll().experience, unroll(agent_with()).experience
    known = np.asarray(plain.known)
    values = np.asarray(plain.advantage)[known]
    np.testing.assert_allclose(
        np.asarray(normal_.advantage)[known], (values - values.mean()) / values.std(), rtol=1e-3, atol=1e-5
    )
    np.testing.assert_allclose(normal_.value_target, plain.value_target, rtol=1e-6)


def test_the_ratio_is_one_before_the_first_update():
    data = unroll().experience
    actor = first_state().actor
    output = np.asarray(actor(jnp.concatenate([data.observation, data.desired_goal], axis=-1)), np.float64)
    expected = log_density(output, np.asarray(data.action, np.float64))
    np.testing.assert_allclose(data.log_density, expected, rtol=1e-4, atol=1e-4)
    _, metrics = update(AGENT, first_state(), unroll(), jax.random.key(0))
    assert float(metrics["kl"]) == pytest.approx(0.0, abs=1e-6)
    assert float(metrics["clipped"]) == 0.0


def log_density(output, action):
    mean, raw = np.split(output, 2, axis=-1)
    std = np.exp(-5.0 + 3.5 * (np.tanh(raw) + 1.0))
    gaussian = scipy.stats.norm.logpdf(np.arctanh(action), mean, std)
    return np.sum(gaussian - np.log(1.0 - action**2 + 1e-6), axis=-1)


# ---- Minibatches -------------------------------------------------------------------------------------------


def rows_of(minibatch):
    every = np.asarray(unroll().experience.observation)
    return [int(np.flatnonzero((every == row).all(axis=-1))[0]) for row in np.asarray(minibatch.observation)]


def epoch(states, data):
    return [row for state in states for row in rows_of(minibatch(AGENT, state, data))]


def test_every_epoch_draws_all_steps_without_replacement_in_an_order_of_its_own():
    begun = dataclasses.replace(first_state(), gradient_steps=jnp.asarray(6))
    data = dataclasses.replace(unroll(), gradient_steps=begun.gradient_steps)
    states = [dataclasses.replace(begun, gradient_steps=jnp.asarray(6 + step)) for step in range(8)]
    first, second = epoch(states[:4], data), epoch(states[4:], data)
    assert sorted(first) == sorted(second) == list(range(UNROLL * NUM_ENVS))
    assert first != second
    # New data begin an epoch of their own, whatever was left of the last; another seed or round has another order.
    again = dataclasses.replace(data, gradient_steps=jnp.asarray(9))
    assert sorted(epoch(states[3:7], again)) == list(range(UNROLL * NUM_ENVS))
    for other in (dataclasses.replace(begun, order_seed=begun.order_seed + 1), states[1]):
        assert np.any(prepare(AGENT, other, buffer()).order != prepare(AGENT, begun, buffer()).order)


def test_what_does_not_fill_a_minibatch_is_left_out_of_its_epoch():
    agent = agent_with(batch_size=20)  # of 48 steps
    states = [dataclasses.replace(first_state(agent), gradient_steps=jnp.asarray(step)) for step in range(2)]
    rows = [row for state in states for row in rows_of(minibatch(agent, state, unroll()))]
    assert len(set(rows)) == 40


# ---- Learning ----------------------------------------------------------------------------------------------


def test_actions_that_became_far_likelier_leave_the_loss_a_number():
    data = unroll().experience
    data = dataclasses.replace(data, log_density=data.log_density - 1e3, advantage=-jnp.ones_like(data.advantage))
    loss = jax.jit(jax.value_and_grad(lambda actor: AGENT.actor_loss(actor, data, jax.random.key(0))[0]))
    value, gradient = loss(first_state().actor)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_losses_are_the_written_out_ones():
    agent = agent_with(clip_range=0.1, entropy_coefficient=0.05)
    data = unroll(agent).experience
    shift = np.random.default_rng(0).normal(0.0, 0.2, data.log_density.shape)
    data = dataclasses.replace(data, log_density=data.log_density - jnp.asarray(shift, jnp.float32))
    state, key = first_state(agent), jax.random.key(4)
    inputs = jnp.concatenate([data.observation, data.desired_goal], axis=-1)
    output = np.asarray(state.actor(inputs), np.float64)
    known, advantage = np.asarray(data.known), np.asarray(data.advantage, np.float64)
    ratio = np.exp(shift)
    # Beyond the range, only what makes the objective worse counts.
    surrogate = [
        r * a if (a > 0.0 and r < 1.1) or (a <= 0.0 and r > 0.9) else (1.1 * a if a > 0.0 else 0.9 * a)
        for r, a in zip(ratio, advantage, strict=True)
    ]
    mean, raw = np.split(output, 2, axis=-1)
    noise = np.asarray(jax.random.normal(key, mean.shape), np.float64)
    draws = np.tanh(mean + np.exp(-5.0 + 3.5 * (np.tanh(raw) + 1.0)) * noise)
    entropy = -log_density(output, draws)[known].mean()
    loss, metrics = agent.actor_loss(state.actor, data, key)
    assert float(loss) == pytest.approx(-np.asarray(surrogate)[known].mean() - 0.05 * entropy, rel=1e-3)
    assert float(metrics["entropy"]) == pytest.approx(entropy, rel=1e-3)
    assert float(metrics["kl"]) == pytest.approx((ratio - 1.0 - shift)[known].mean(), rel=1e-2)
    assert float(metrics["clipped"]) == pytest.approx((np.abs(ratio - 1.0) > 0.1)[known].mean(), rel=1e-6)
    value = np.asarray(state.critic(inputs), np.float64)[:, 0]
    loss, metrics = agent.critic_loss(state.critic, data)
    assert float(loss) == pytest.approx(0.5 * np.square(value - data.value_target)[known].mean(), rel=1e-4)
    assert float(metrics["reward"]) == pytest.approx(np.asarray(data.reward)[known].mean(), rel=1e-6)


def test_steps_with_an_unknown_next_state_have_no_weight():
    data, state = unroll().experience, first_state()
    unknown = ~data.known
    spoilt = dataclasses.replace(
        data,
        action=jnp.where(unknown[:, None], -0.9, data.action),
        value_target=jnp.where(unknown, 1e3, data.value_target),
    )
    assert unknown.sum() > 3
    losses = [
        (AGENT.actor_loss(state.actor, batch, jax.random.key(0))[0], AGENT.critic_loss(state.critic, batch)[0])
        for batch in (data, spoilt)
    ]
    np.testing.assert_array_equal(*losses)


def test_ppo_learns_the_best_policy_of_a_line():
    line, length, num_envs = Line(), 24, 64
    one_hot = np.eye(line.num_states, dtype=np.float32)
    sizes = {"batch_size": 256, "width": 32, "unroll_length": length, "sizes": (4, 4, 1)}
    rates = {"actor_learning_rate": 3e-3, "critic_learning_rate": 3e-3}
    agent = agent_with(success=same_state, discount=line.discount, **sizes, **rates)
    act = jax.jit(lambda *arguments: agent.act(*arguments, "stochastic"))

    @jax.jit
    def learn(state, trajectory, key):
        data = agent.prepare(state, insert(empty_buffer(length, num_envs, 4, 4, 1), trajectory))
        return jax.lax.scan(lambda state, key: agent.update(state, data, key), state, jax.random.split(key, 24))

    state = first_state(agent)
    rewards = []
    for seed in range(16):
        keys = iter(jax.random.split(jax.random.key(seed), length))

        def behavior(rng, states, goals, *, state=state, keys=keys):
            return np.asarray(act(state, one_hot[states], one_hot[goals], next(keys)))[:, 0]

        collected = line.collect(num_envs=num_envs, length=length, episode_length=12, behavior=behavior, seed=seed)
        state, metrics = learn(state, collected, jax.random.key(100 + seed))
        rewards.append(float(jnp.mean(metrics["reward"])))
    observation, _, goal = line.everything()
    action = jax.jit(agent.act)(state, observation, goal, jax.random.key(0))
    chosen = (np.asarray(action).reshape(4, 2, 4)[:, 0] > 0.0).astype(int)
    states, goals = np.indices((4, 4))
    assert np.all(line.optimal_actions[states, chosen, goals])
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.2


# ---- Options -----------------------------------------------------------------------------------------------


def outcome(agent):
    @jax.jit
    def look(key, buffer):
        state = agent.init(key)
        data = agent.prepare(state, buffer)
        # Far from what was collected with, so that clipping shows.
        experience = dataclasses.replace(data.experience, log_density=data.experience.log_density - 0.4)
        new_state, metrics = agent.update(state, dataclasses.replace(data, experience=experience), key)
        return {
            "advantage": data.experience.advantage,
            "actor_loss": metrics["actor_loss"],
            "critic_loss": metrics["critic_loss"],
            "actor_step": new_state.actor.head.bias - state.actor.head.bias,
            "critic_step": new_state.critic.head.bias - state.critic.head.bias,
            "actor_moments": new_state.optimizers["actor"][1][0].mu.head.bias,
            "critic_moments": new_state.optimizers["critic"][1][0].mu.head.bias,
        }

    return look(jax.random.key(3), buffer())


ESTIMATES = {"advantage", "actor_loss", "actor_moments", "critic_loss", "critic_moments"}
ACTOR = {"actor_loss", "actor_moments"}
OPTIONS = {
    "discount": (0.3, ESTIMATES),
    "gae_lambda": (0.1, ESTIMATES),
    "clip_range": (0.6, ACTOR),
    "entropy_coefficient": (0.5, ACTOR),
    "normalize_advantages": (False, {"advantage"} | ACTOR),
    "max_gradient_norm": (1e-3, {"actor_moments", "critic_moments"}),
    "actor_depth": (2, ACTOR),
    "critic_depth": (2, ESTIMATES),
    "actor_width": (16, ACTOR),
    "critic_width": (16, ESTIMATES),
    "actor_learning_rate": (0.1, {"actor_step"}),
    "critic_learning_rate": (0.1, {"critic_step"}),
}


def test_every_option_is_listed_here():
    assert set(OPTIONS) == {field.name for field in dataclasses.fields(PPOConfig)}


PLAIN = {"entropy_coefficient": 0.05}
"""Where all ratios are clipped, the actor shows in its loss by its entropy alone."""


@functools.cache
def plain_outcome():
    return outcome(agent_with(**PLAIN))


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_changes_what_it_says_and_nothing_else(option):
    value, expected = OPTIONS[option]
    assert getattr(PPOConfig(), option) != value
    ours, plain = outcome(agent_with(**PLAIN | {option: value})), plain_outcome()
    changed = {name for name in plain if not np.allclose(ours[name], plain[name], rtol=1e-3, atol=1e-7)}
    # The first step of Adam has the learning rate's length, but its signs follow the gradient.
    signs = set() if option.endswith("learning_rate") else {"actor_step", "critic_step"}
    assert changed - signs == expected


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("discount", 1.0, "discount=1.0 must be above 0 and below 1"),
        ("gae_lambda", 1.5, "gae_lambda=1.5 must be from 0 to 1"),
        ("clip_range", 0.0, "clip_range=0.0 must be above 0"),
        ("entropy_coefficient", -1e-3, "entropy_coefficient=-0.001 must not be negative"),
        ("max_gradient_norm", 0.0, "max_gradient_norm=0.0 must be above 0"),
        ("actor_learning_rate", float("inf"), "actor_learning_rate=inf must be a finite number"),
        ("critic_learning_rate", 0.0, "critic_learning_rate=0.0 must be above 0"),
        ("actor_width", 0, "actor_width=0 must be at least 1"),
        ("critic_width", 0, "critic_width=0 must be at least 1"),
        ("actor_depth", 3, "actor_depth: depth=3 is not a multiple of block_size=2"),
        ("critic_depth", -2, "critic_depth: depth=-2 must be 0 or a multiple"),
        ("unroll_length", 1, "unroll_length=1 must be at least 2"),
    ],
)
def test_impossible_settings_are_refused_by_name(no_type_checks, option, value, message):
    with pytest.raises(ConfigurationError) as error:
        agent_with(**{option: value})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"unroll_length": 21}, "replay_capacity=20 must hold an unroll (21)"),
        ({"batch_size": 49}, "batch_size=49 must be at most 48 (an unroll)"),
    ],
)
def test_a_buffer_that_cannot_hold_what_is_learnt_from_is_refused(option, message):
    agent = agent_with(**option)
    with pytest.raises(ConfigurationError) as error:
        jax.eval_shape(agent.prepare, jax.eval_shape(agent.init, jax.random.key(0)), buffer())
    assert str(error.value) == message


def test_actor_and_critic_are_counted_and_diagnosed():
    agent = agent_with(depth=2)
    counts = agent.parameter_counts()
    assert counts["actor"] - counts["critic"] == (8 + 1) * (2 * ACTION - 1)
    found = jax.jit(agent.diagnose)(first_state(agent), buffer(), jax.random.key(0))
    kinds = ("stream_norm", "residual_norm", "dead_units", "gradient_norm")
    assert set(found) == {f"{name}/{what}" for name in ("actor", "critic") for what in kinds}
    assert all(np.all(np.isfinite(value)) for value in found.values())
    assert np.all(found["actor/gradient_norm"] > 0.0)
    assert np.all(found["critic/gradient_norm"] > 0.0)
