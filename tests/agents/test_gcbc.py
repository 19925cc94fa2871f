"""GCBC and GCSL: the likelihood of actions given goals in hindsight, and how each collects."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from random_data import ACTION, GOAL, OBSERVATION, normal, random_buffer, random_trajectory
from tiny_worlds import Line

from kilolayer.agents import GCBC, GCSL, GCBCConfig, GCSLConfig
from kilolayer.agents.core import gaussian_policy
from kilolayer.agents.gcsl import reflect
from kilolayer.data import empty_buffer, insert, sample_hindsight
from kilolayer.errors import ConfigurationError
from kilolayer.nn import ResidualArchitecture
from kilolayer.objectives import tanh_gaussian

CONFIGS = {GCBC: GCBCConfig, GCSL: GCSLConfig}
KINDS = list(CONFIGS)


def agent_with(kind, batch_size=8, depth=2, width=8, sizes=(OBSERVATION, GOAL, ACTION), **config):
    observation_size, goal_size, action_size = sizes
    return kind(
        observation_size=observation_size,
        goal_size=goal_size,
        action_size=action_size,
        batch_size=batch_size,
        depth=depth,
        width=width,
        architecture=ResidualArchitecture(block_size=2),
        config=CONFIGS[kind](**config),
    )


@functools.cache
def first_state(agent):
    return jax.jit(agent.init)(jax.random.key(3))


@functools.cache
def buffer():
    return random_buffer(random_trajectory())


act = jax.jit(lambda agent, *arguments, mode: agent.act(*arguments, mode), static_argnums=0, static_argnames="mode")
collect = jax.jit(lambda agent, *arguments: agent.collect(*arguments), static_argnums=0)
update = jax.jit(lambda agent, *arguments: agent.update(*arguments), static_argnums=0)


# ---- Acting ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_actions_lie_within_one_whatever_the_leading_axes(kind):
    agent = agent_with(kind, depth=0)
    pairs = [(100.0 * normal(*shape, OBSERVATION), 100.0 * normal(*shape, GOAL)) for shape in [(), (5,), (2, 3)]]

    @jax.jit
    def everything(state, pairs, key):
        return [[agent.act(state, *pair, key, mode) for mode in ("deterministic", "stochastic")] for pair in pairs]

    for (observation, _), both in zip(pairs, everything(first_state(agent), pairs, jax.random.key(0)), strict=True):
        for actions in both:
            assert actions.shape == (*observation.shape[:-1], ACTION)
            assert np.all(np.abs(actions) <= 1.0)
            assert len(np.unique(actions)) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_deterministic_action_is_the_tanh_of_the_actors_first_outputs(kind):
    agent = agent_with(kind)
    state, observation, goal = first_state(agent), normal(5, OBSERVATION), normal(5, GOAL, seed=1)
    output = agent.actor(state)(jnp.concatenate([observation, goal], axis=-1))
    action = act(agent, state, observation, goal, jax.random.key(0), mode="deterministic")
    np.testing.assert_allclose(action, np.tanh(output[:, :ACTION]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_critic_there_is_no_best_of_and_no_value(kind, no_type_checks):
    agent = agent_with(kind)
    pair = normal(OBSERVATION), normal(GOAL)
    with pytest.raises(ConfigurationError, match="'best_of' needs a critic of actions"):
        agent.act(first_state(agent), *pair, jax.random.key(0), "best_of")
    with pytest.raises(ConfigurationError, match=f"{kind.__name__} has no value"):
        agent.value(first_state(agent), *pair)
    with pytest.raises(ConfigurationError, match="action mode 'greedy' is unknown"):
        agent.act(first_state(agent), *pair, jax.random.key(0), "greedy")
    assert not kind.has_value


def many_draws(agent, count=4000):
    mean, log_std = jnp.full((count, ACTION), 0.3), jnp.full((count, ACTION), -1.0)
    return np.asarray(agent.explore(mean, log_std, jax.random.key(5)))


def test_gcbc_collects_with_its_own_draws():
    actions = many_draws(agent_with(GCBC), 5)
    expected, _ = tanh_gaussian.sample(jnp.full((5, ACTION), 0.3), jnp.full((5, ACTION), -1.0), jax.random.key(5))
    np.testing.assert_array_equal(actions, expected)


@pytest.mark.parametrize(("kind", "option"), [(GCBC, {"exploration": "random"}), (GCSL, {"random_action": 1.0})])
def test_exploration_is_for_collecting_and_stochastic_actions_are_the_policys(kind, option):
    agent = agent_with(kind, **option)
    state, pair, key = first_state(agent), (normal(OBSERVATION), normal(GOAL)), jax.random.key(6)
    mean, log_std = gaussian_policy.policy(state.actor, *pair)
    explored = agent.collect(state, *pair, key)
    np.testing.assert_allclose(explored, agent.explore(mean, log_std, key), rtol=1e-4, atol=1e-6)
    stochastic = act(agent, state, *pair, key, mode="stochastic")
    np.testing.assert_allclose(stochastic, tanh_gaussian.sample(mean, log_std, key)[0], rtol=1e-4, atol=1e-6)
    assert not np.allclose(stochastic, explored)


@pytest.mark.parametrize(("kind", "option"), [(GCBC, {"exploration": "random"}), (GCSL, {"random_action": 1.0})])
def test_random_exploration_is_uniform(kind, option):
    actions = many_draws(agent_with(kind, **option))
    assert scipy.stats.kstest(actions.ravel(), "uniform", (-1.0, 2.0)).pvalue > 0.01
    assert np.max(np.abs(np.corrcoef(actions.T) - np.eye(ACTION))) < 0.05


def test_gcsl_adds_noise_to_its_draws_and_acts_at_random_in_whole_steps():
    plain, noisy, random = (
        many_draws(agent_with(GCSL, exploration_noise=noise, random_action=share))
        for noise, share in [(0.0, 0.0), (0.05, 0.0), (0.05, 0.3)]
    )
    inner = np.abs(plain) < 0.7  # where the ends are far
    assert np.std((noisy - plain)[inner]) == pytest.approx(0.05, rel=0.05)
    replaced = random != noisy
    assert np.all(replaced == replaced[:, :1])
    assert replaced[:, 0].mean() == pytest.approx(0.3, abs=0.03)


def test_noise_beyond_the_ends_is_folded_back():
    folded = reflect(jnp.array([-1.3, -1.0, -0.2, 0.0, 0.9, 1.0, 1.25, 3.0, -3.5]))
    np.testing.assert_allclose(folded, [-0.7, -1.0, -0.2, 0.0, 0.9, 1.0, 0.75, -1.0, 0.5], atol=1e-6)


# ---- Learning ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "discount"), [(GCBC, 0.99), (GCSL, 1.0)])
def test_a_step_is_adams_on_the_likelihood_of_hindsight_pairs(kind, discount):
    agent, key = agent_with(kind, actor_learning_rate=1e-2), jax.random.key(8)
    state, metrics = update(agent, first_state(agent), buffer(), key)
    batch = sample_hindsight(buffer(), (8,), discount, jax.random.split(key)[0])
    output = first_state(agent).actor(jnp.concatenate([batch.observation, batch.desired_goal], axis=-1))
    mean, raw = np.split(np.asarray(output, np.float64), 2, axis=-1)
    std = np.exp(-5.0 + 3.5 * (np.tanh(raw) + 1.0))
    action = np.asarray(batch.action, np.float64)
    density = scipy.stats.norm.logpdf(np.arctanh(action), mean, std) - np.log(1.0 - action**2 + 1e-6)
    assert float(metrics["actor_loss"]) == pytest.approx(-density.sum(axis=-1).mean(), rel=1e-4)
    assert float(metrics["action_error"]) == pytest.approx(np.abs(np.tanh(mean) - action).mean(), rel=1e-4)
    # Adam's first step has the learning rate's length, against the gradient: for the means' biases, d loss / d mean.
    moved = np.asarray(state.actor.head.bias - first_state(agent).actor.head.bias)[:ACTION]
    gradient = ((mean - np.arctanh(action)) / std**2).mean(axis=0)
    np.testing.assert_allclose(moved, -1e-2 * np.sign(gradient), rtol=1e-3)


def hindsight_moments(trajectory, discount):
    """Return mean and standard deviation of the action before the tanh over all hindsight pairs, indexed by s, g.

    Each step has weight 1, shared out among its goals: k steps ahead, discount^k.
    """
    state = np.asarray(trajectory.observation).argmax(axis=-1)
    before_tanh = np.arctanh(np.asarray(trajectory.action, np.float64)[..., 0])
    ends = np.flatnonzero(np.asarray(trajectory.done)[:, 0])  # the same for all environments
    num_states = trajectory.observation.shape[-1]
    sums = np.zeros((3, num_states, num_states))
    for time in range(len(state)):
        left = min(ends[ends >= time], default=len(state) - 1) - time
        steps = np.arange(1, left + 1) if left else np.zeros(1, int)
        weights = discount**steps / np.sum(discount**steps)
        for ahead, weight in zip(steps, weights, strict=True):
            for power, total in enumerate(sums):
                np.add.at(total, (state[time], state[time + ahead]), weight * before_tanh[time] ** power)
    mean = sums[1] / sums[0]
    return mean, np.sqrt(sums[2] / sums[0] - mean**2)


LINE = Line(num_states=3, slip=0.1)
LINE_SIZES = (LINE.num_states, LINE.num_states, 1)


def leaning(rng, states, goals):
    """Draw from a tanh-Gaussian whose mean depends on the state."""
    del goals
    return np.tanh(rng.normal(0.3 - 0.3 * states, 0.8))


def train(agent, state, buffer, steps, key):
    return jax.lax.scan(lambda state, key: agent.update(state, buffer, key), state, jax.random.split(key, steps))[0]


train_jitted = jax.jit(train, static_argnums=(0, 3))


@functools.cache
def experience():
    return LINE.collect(num_envs=64, length=96, episode_length=16, behavior=leaning)


@pytest.mark.parametrize(("kind", "discount"), [(GCBC, 0.3), (GCSL, 1.0)])
def test_the_policy_becomes_the_gaussian_of_the_actions_before_each_goal(kind, discount):
    # The likeliest Gaussian has the mean and the deviation of what it is to explain. The tolerance is the noise of
    # Adam's last steps; the goals' weights move the means by several times as much.
    expected = {weight: hindsight_moments(experience(), weight) for weight in (0.3, 1.0)}
    assert np.mean(np.abs(expected[0.3][0] - expected[1.0][0])) > 0.15
    config = {"discount": discount} if kind is GCBC else {}
    agent = agent_with(kind, batch_size=512, depth=0, width=32, sizes=LINE_SIZES, **config)
    length, num_envs = experience().done.shape
    data = insert(empty_buffer(length, num_envs, *LINE_SIZES), experience())
    state = jax.jit(agent.init)(jax.random.key(0))
    for round_, (learning_rate, steps) in enumerate([(1e-2, 250), (1e-3, 200)]):
        annealed = dataclasses.replace(
            agent, config=dataclasses.replace(agent.config, actor_learning_rate=learning_rate)
        )
        state = train_jitted(annealed, state, data, steps, jax.random.key(round_))
    observation, _, goal = LINE.everything()
    found = gaussian_policy.policy(state.actor, jnp.asarray(observation), jnp.asarray(goal))
    mean, std = (np.asarray(each).reshape(3, 2, 3)[:, 0] for each in (found[0], np.exp(found[1])))
    np.testing.assert_allclose(mean, expected[discount][0], atol=0.05)
    np.testing.assert_allclose(std, expected[discount][1], atol=0.05)


@pytest.mark.slow
def test_gcsl_reaches_goals_better_the_more_it_collects_and_imitates():
    line, length, num_envs = Line(num_states=5), 24, 64
    agent = agent_with(GCSL, batch_size=256, width=32, sizes=(5, 5, 1), actor_learning_rate=3e-3)
    state = jax.jit(agent.init)(jax.random.key(0))
    data = empty_buffer(8 * length, num_envs, 5, 5, 1)
    one_hot = np.eye(5, dtype=np.float32)
    reached = []
    for seed in range(16):
        keys = iter(jax.random.split(jax.random.key(seed), length))

        def behavior(rng, states, goals, *, state=state, keys=keys):
            actions = collect(agent, state, one_hot[states], one_hot[goals], next(keys))
            return np.asarray(actions)[:, 0]

        trajectory = line.collect(num_envs=num_envs, length=length, episode_length=6, behavior=behavior, seed=seed)
        reached.append(np.mean(np.all(trajectory.achieved_goal == trajectory.desired_goal, axis=-1)))
        data = insert(data, trajectory)
        state = train_jitted(agent, state, data, 40, jax.random.key(100 + seed))
    observation, _, goal = line.everything()
    action = act(agent, state, observation, goal, jax.random.key(0), mode="deterministic")
    right = np.asarray(action).reshape(5, 2, 5)[:, 0] > 0.0
    towards = np.sign(np.arange(5) - np.arange(5)[:, None])
    assert np.all((np.where(right, 1, -1) == towards)[towards != 0])
    assert np.mean(reached[-4:]) > np.mean(reached[:2]) + 0.08  # the policy still draws, and explores


# ---- Options -----------------------------------------------------------------------------------------------


def outcome(agent):
    state, metrics = update(agent, first_state(agent), buffer(), jax.random.key(0))
    return {
        "actor_loss": metrics["actor_loss"],
        "step": state.actor.head.bias - first_state(agent).actor.head.bias,
        "explored": many_draws(agent, 5),
    }


OPTIONS = {
    (GCBC, "discount"): (0.2, {"actor_loss"}),
    (GCBC, "actor_learning_rate"): (0.1, {"step"}),
    (GCBC, "exploration"): ("random", {"explored"}),
    (GCBC, "likelihood"): ("constant_width", {"actor_loss", "step"}),
    (GCSL, "actor_learning_rate"): (0.1, {"step"}),
    (GCSL, "exploration_noise"): (0.5, {"explored"}),
    (GCSL, "random_action"): (0.9, {"explored"}),
}


@functools.cache
def default_outcome(kind):
    return outcome(agent_with(kind, depth=0))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "option"), OPTIONS)
def test_each_option_changes_what_it_says_and_nothing_else(kind, option):
    value, expected = OPTIONS[kind, option]
    assert getattr(CONFIGS[kind](), option) != value
    ours, plain = outcome(agent_with(kind, depth=0, **{option: value})), default_outcome(kind)
    changed = {name for name in plain if not np.allclose(ours[name], plain[name], rtol=1e-3)}
    # Another batch may turn the sign of a gradient, and the first step of Adam with it.
    assert changed - ({"step"} - expected if option == "discount" else set()) == expected


def test_every_option_is_listed_here():
    assert set(OPTIONS) == {(kind, field.name) for kind in KINDS for field in dataclasses.fields(CONFIGS[kind])}


@pytest.mark.parametrize(
    ("kind", "option", "value", "message"),
    [
        (GCBC, "discount", 0.0, "discount=0.0 must be above 0 and at most 1"),
        (GCBC, "actor_learning_rate", 0.0, "actor_learning_rate=0.0 must be above 0"),
        (GCBC, "actor_learning_rate", float("nan"), "actor_learning_rate=nan must be a finite number"),
        (GCBC, "likelihood", "normal", "likelihood='normal' is unknown; choose one of policy, constant_width"),
        (GCBC, "exploration", "greedy", "exploration='greedy' is unknown; choose one of policy, random"),
        (GCSL, "actor_learning_rate", -1.0, "actor_learning_rate=-1.0 must be above 0"),
        (GCSL, "exploration_noise", -0.1, "exploration_noise=-0.1 must not be negative"),
        (GCSL, "random_action", 1.1, "random_action=1.1 must be from 0 to 1"),
        (GCSL, "depth", 3, "depth=3 is not a multiple of block_size=2"),
    ],
)
def test_impossible_settings_are_refused_by_name(no_type_checks, kind, option, value, message):
    with pytest.raises(ConfigurationError) as error:
        agent_with(kind, **{option: value})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_actor_is_counted_and_diagnosed(kind):
    agent = agent_with(kind)
    assert set(agent.parameter_counts()) == {"actor"}
    found = jax.jit(agent.diagnose)(first_state(agent), buffer(), jax.random.key(0))
    assert set(found) == {f"actor/{what}" for what in ("stream_norm", "residual_norm", "dead_units", "gradient_norm")}
    assert all(np.all(np.isfinite(value)) for value in found.values())
    assert np.all(found["actor/gradient_norm"] > 0.0)
