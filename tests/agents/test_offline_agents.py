"""Agents for data that nobody adds to: GCIVL and GCIQL, and actors that imitate besides climbing their critic."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from goal_agents import best_actions_chosen, c_learning, normal, on_the_line, qrl, small_buffer, train
from tiny_worlds import Line

from kilolayer.agents import CRL, GCBC, GCIQL, GCIVL, CRLConfig, GCBCConfig, GCIQLConfig, GCIVLConfig, SurvivalConfig
from kilolayer.agents.core.behaviour_cloning import climb_and_clone, constant_width_density
from kilolayer.data import GoalShares, GoalTransitions, sample_goal_transitions
from kilolayer.errors import ConfigurationError
from kilolayer.nn import ResidualArchitecture
from kilolayer.objectives import advantage_weights, expectile_loss

CONFIGS = {GCIVL: GCIVLConfig, GCIQL: GCIQLConfig}
KINDS = list(CONFIGS)
OBSERVATION, GOAL, ACTION, BATCH = 4, 2, 3, 8


def agent_with(kind, batch_size=BATCH, depth=2, width=8, **config):
    return kind(
        observation_size=OBSERVATION,
        goal_size=GOAL,
        action_size=ACTION,
        batch_size=batch_size,
        depth=depth,
        width=width,
        architecture=ResidualArchitecture(block_size=2),
        config=CONFIGS[kind](**config),
    )


@functools.cache
def first_state(agent):
    """A state whose targets differ from its networks."""
    state = jax.jit(agent.init)(jax.random.key(3))
    moved = jax.tree.map(lambda leaf: leaf + 0.1 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), state)
    return dataclasses.replace(moved, optimizers=state.optimizers)


def batch_of(size=BATCH):
    """Rows of which one is at its goal, one fails and one leads nobody knows where."""
    row = jnp.arange(size)
    return GoalTransitions(
        observation=normal(size, OBSERVATION),
        action=jnp.tanh(normal(size, ACTION, seed=1)),
        goal=normal(size, GOAL, seed=2),
        next_observation=normal(size, OBSERVATION, seed=3),
        reached=row == 1,
        terminated=row == 2,
        known=row != 5,
        later_goal=normal(size, GOAL, seed=4),
    )


# ---- Mathematics -------------------------------------------------------------------------------------------


def test_the_expectile_loss_weighs_what_is_above_more():
    advantage, error = jnp.array([1.0, -1.0, 0.0]), jnp.array([2.0, 3.0, 1.0])
    np.testing.assert_allclose(expectile_loss(advantage, error, 0.9), [3.6, 0.9, 0.9], rtol=1e-6)


def test_its_minimum_is_the_expectile():
    values = np.array([0.0, 0.0, 0.0, 1.0])
    grid = jnp.linspace(0.0, 1.0, 1001)
    loss = jax.vmap(lambda v: jnp.mean(expectile_loss(values - v, values - v, 0.9)))(grid)
    assert float(grid[jnp.argmin(loss)]) == pytest.approx(0.9 / (0.9 + 3 * 0.1), abs=1e-3)


def test_weights_of_advantages_are_bounded():
    np.testing.assert_allclose(
        advantage_weights(jnp.array([-1.0, 0.0, 9.0]), 2.0), [np.exp(-2.0), 1.0, 100.0], rtol=1e-6
    )


def test_climbing_is_scaled_and_cloning_is_the_squared_error():
    mean, action, score = normal(6, 2), jnp.tanh(normal(6, 2, seed=1)), normal(6, seed=2)
    valid = jnp.arange(6) != 3
    loss, metrics = climb_and_clone(mean, score, action, 0.3, valid)
    kept = np.asarray(valid)
    q = np.asarray(score)[kept]
    squares = np.square(np.tanh(np.asarray(mean)) - np.asarray(action)).sum(axis=1)[kept]
    expected = -q.mean() / (np.abs(q).mean() + 1e-6) + 0.3 * 0.5 * squares.mean()
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["action_likelihood"]) == pytest.approx(-0.5 * squares.mean(), rel=1e-5)
    gradient = jax.grad(lambda score: climb_and_clone(mean, score, action, 0.3)[0])(score)
    np.testing.assert_allclose(gradient, -1.0 / 6.0 / (jnp.abs(score).mean() + 1e-6), rtol=1e-5)  # its size is constant


def test_goals_are_shared_out_as_asked():
    shares = GoalShares(0.9, own=0.25, random=0.5)
    buffer = small_buffer()
    drawn = jax.jit(lambda key: sample_goal_transitions(buffer, 4000, shares, key))(jax.random.key(0))
    achieved = np.asarray(buffer.achieved_goal)
    own = np.asarray(buffer.observation)
    place = {
        tuple(np.round(row, 5)): index for index, row in np.ndenumerate(np.zeros(own.shape[:2])) for row in [own[index]]
    }
    rows = [place[tuple(np.round(row, 5))] for row in np.asarray(drawn.observation)]
    at_own = np.array([np.allclose(achieved[row], goal) for row, goal in zip(rows, drawn.goal, strict=True)])
    np.testing.assert_array_equal(at_own, drawn.reached)
    assert at_own.mean() == pytest.approx(0.25, abs=0.05)
    last = np.where(np.array([row[0] for row in rows]) < 12, 11, 23)
    for (time, ring), goal, end in zip(rows, np.asarray(drawn.later_goal), last, strict=True):
        assert (np.abs(achieved[min(time + 1, end) : end + 1, ring] - goal) < 1e-6).all(axis=1).any()


# ---- Losses ------------------------------------------------------------------------------------------------


def test_gcivl_learns_by_its_equations():
    agent, batch = agent_with(GCIVL), batch_of()
    state = first_state(agent)
    discount, known = 0.99, np.asarray(batch.known)

    def values(critic, seen, goal):
        return np.asarray(critic(seen, goal), np.float64)

    target = state.target_critic
    following = values(target, batch.next_observation, batch.goal)
    following = np.where(batch.terminated, -100.0, following)
    backed = np.where(batch.reached, 0.0, -1.0 + discount * following)
    least = np.where(batch.reached, 0.0, -1.0 + discount * following.min(axis=0))
    advantage = least - values(target, batch.observation, batch.goal).mean(axis=0)
    error = backed - values(state.critic, batch.observation, batch.goal)
    losses = (np.where(advantage >= 0, 0.9, 0.1) * error**2).sum(axis=0)
    loss, _ = agent.critic_loss(state.critic, target, batch)
    assert float(loss) == pytest.approx(losses[known].mean(), rel=1e-4)

    gain = np.diff(
        [values(state.critic, s, batch.later_goal).mean(axis=0) for s in (batch.observation, batch.next_observation)],
        axis=0,
    )[0]
    action = agent.act(state, batch.observation, batch.later_goal, jax.random.key(0))
    squares = np.square(np.asarray(action) - batch.action).sum(axis=1)
    weights = np.minimum(np.exp(10.0 * gain), 100.0)
    loss, _ = agent.actor_loss(state.actor, state.critic, batch)
    assert float(loss) == pytest.approx(0.5 * (weights * squares)[known].mean(), rel=1e-4)


def test_gciql_learns_by_its_equations():
    agent, batch = agent_with(GCIQL), batch_of()
    state, known = first_state(agent), np.asarray(batch.known)
    value = np.asarray(agent.value(state, batch.observation, batch.goal), np.float64)
    least = np.asarray(state.target_critic.least(batch.observation, batch.action, batch.goal), np.float64)
    advantage = least - value
    loss, _ = agent.value_loss(state.state_value, state.target_critic, batch)
    assert float(loss) == pytest.approx((np.where(advantage >= 0, 0.9, 0.1) * advantage**2)[known].mean(), rel=1e-4)

    following = np.where(batch.terminated, -100.0, agent.value(state, batch.next_observation, batch.goal))
    backed = np.where(batch.reached, 0.0, -1.0 + 0.99 * following)
    q = np.asarray(state.critic(batch.observation, batch.action, batch.goal), np.float64)
    loss, _ = agent.critic_loss(state.critic, state.state_value, batch)
    assert float(loss) == pytest.approx(((backed - q) ** 2).sum(axis=0)[known].mean(), rel=1e-4)

    action = agent.act(state, batch.observation, batch.later_goal, jax.random.key(0))
    score = np.asarray(agent.action_value(state, batch.observation, action, batch.later_goal))
    squares = np.square(np.asarray(action) - batch.action).sum(axis=1)
    loss, _ = agent.actor_loss(state.actor, state.critic, batch)
    expected = -score.mean() / np.abs(score).mean() + 0.3 * 0.5 * squares.mean()
    assert float(loss) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_moves_targets_slowly_and_everything_else(kind):
    agent = agent_with(kind, target_rate=0.25)
    state, batch = first_state(agent), batch_of()
    new, metrics = jax.jit(agent.learn)(state, batch, jax.random.key(0))
    assert all(np.isfinite(value) for value in metrics.values())
    old_target, target, critic = (
        jax.tree.leaves(tree) for tree in (state.target_critic, new.target_critic, new.critic)
    )
    for slow, moved, fast in zip(old_target, target, critic, strict=True):
        np.testing.assert_allclose(moved, slow + 0.25 * (fast - slow), rtol=1e-4, atol=1e-6)
    for name, network in agent.networks(state).items():
        assert not np.array_equal(network.head.weight, agent.networks(new)[name].head.weight), name


LINE = Line(num_states=4, discount=0.8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_values_are_the_steps_of_the_shortest_way_and_actions_follow_it(kind):
    """The data are of random actions: the value is that of the best of them, and so is what the actor imitates.

    A goal counts as reached in its own step alone, and here other steps have the same state: the critic of GCIQL is the
    mean over both, so that its values are lower, in the same order.
    """
    config = CONFIGS[kind](
        discount=0.8, expectile=0.95, target_rate=0.05, actor_learning_rate=1e-3, critic_learning_rate=3e-3
    )
    agent = on_the_line(kind, LINE, config, batch_size=128)
    state, _ = train(agent, jax.jit(agent.init)(jax.random.key(0)), LINE.buffer(), 3000)
    one_hot = jnp.eye(LINE.num_states)
    found = np.asarray(agent.value(state, jnp.repeat(one_hot, 4, axis=0), jnp.tile(one_hot, (4, 1)))).reshape(4, 4)
    expected = -(1.0 - 0.8**LINE.steps_to_go) / (1.0 - 0.8)
    if kind is GCIVL:
        np.testing.assert_allclose(found, expected, atol=0.45)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95
    assert best_actions_chosen(agent, state, LINE)[~np.eye(4, dtype=bool)].mean() >= 0.9


# ---- Options -----------------------------------------------------------------------------------------------


def outcome(agent):
    state, key = first_state(agent), jax.random.key(0)
    new, metrics = jax.jit(agent.update)(state, small_buffer(), key)
    observation, goal = normal(5, OBSERVATION), normal(5, GOAL, seed=1)
    return {
        "actor_loss": metrics["actor_loss"],
        "critic_loss": metrics["critic_loss"],
        "actor_step": jnp.abs(new.actor.head.bias - state.actor.head.bias).max(),
        "critic_step": jnp.abs(new.critic.first.head.bias - state.critic.first.head.bias).max(),
        "target": new.target_critic.first.head.bias - state.target_critic.first.head.bias,
        "explored": agent.act(state, observation, goal, key, "stochastic"),
    }


BOTH = {"actor_loss", "critic_loss"}
OPTIONS = {
    "discount": (0.5, {"critic_loss"}),
    "expectile": (0.6, {"critic_loss"}),
    "target_rate": (0.5, {"target"}),
    "own_goals": (0.7, {"critic_loss"}),
    "random_goals": (0.8, {"critic_loss"}),
    "exploration_noise": (0.5, {"explored"}),
    "actor_depth": (4, {"actor_loss", "explored"}),
    "actor_width": (16, {"actor_loss", "explored"}),
    "critic_depth": (4, BOTH),
    "critic_width": (16, BOTH),
    "actor_learning_rate": (0.1, {"actor_step"}),
    "critic_learning_rate": (0.1, {"critic_step", "target"}),
    "sharpness": (1.0, {"actor_loss"}),
    "behaviour_cloning": (3.0, {"actor_loss"}),
}


@functools.cache
def default_outcome(kind):
    return outcome(agent_with(kind))


def options_of(kind):
    return [field.name for field in dataclasses.fields(CONFIGS[kind])]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "option"), [(kind, option) for kind in KINDS for option in options_of(kind)])
def test_each_option_changes_what_it_says(kind, option):
    value, expected = OPTIONS[option]
    if (kind, option) == (GCIQL, "expectile"):
        expected = set()  # of the state's value; shown by its equation
    assert getattr(CONFIGS[kind](), option) != value
    ours, plain = outcome(agent_with(kind, **{option: value})), default_outcome(kind)
    changed = {name for name in plain if not np.allclose(ours[name], plain[name], rtol=1e-3)}
    assert expected <= changed
    if "actor_loss" not in expected:
        assert "actor_loss" not in changed


def test_every_option_is_listed_here():
    assert set(OPTIONS) == set(options_of(GCIVL)) | set(options_of(GCIQL))


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (GCIVLConfig, {"expectile": 1.0}, "expectile=1.0 must be above 0 and below 1"),
        (GCIVLConfig, {"own_goals": 0.8}, "own_goals=0.8 and random_goals=0.3 must be at most 1 together"),
        (GCIVLConfig, {"sharpness": -1.0}, "sharpness=-1.0 must not be negative"),
        (GCIVLConfig, {"discount": 1.0}, "discount=1.0 must be above 0 and below 1"),
        (GCIQLConfig, {"behaviour_cloning": -1.0}, "behaviour_cloning=-1.0 must not be negative"),
        (GCIQLConfig, {"target_rate": 0.0}, "target_rate=0.0 must be above 0"),
        (GCIQLConfig, {"critic_width": 0}, "critic_width=0 must be at least 1"),
        (CRLConfig, {"behaviour_cloning": -0.1}, "behaviour_cloning=-0.1 must not be negative"),
        (CRLConfig, {"behaviour_cloning": 0.1, "target_entropy": -1.0}, "target_entropy=-1.0 has no effect with"),
        (SurvivalConfig, {"behaviour_cloning": 0.1, "alpha_learning_rate": 1e-3}, "alpha_learning_rate=0.001 has no"),
    ],
)
def test_impossible_settings_are_refused_by_name(config, settings, message):
    with pytest.raises(ConfigurationError) as error:
        config(**settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_no_best_of(kind):
    with pytest.raises(ConfigurationError, match="'best_of' needs a critic of actions"):
        agent_with(kind).act(first_state(agent_with(kind)), normal(4), normal(2), jax.random.key(0), "best_of")


# ---- Actors that imitate -----------------------------------------------------------------------------------


def crl(**config):
    return CRL(
        OBSERVATION,
        GOAL,
        ACTION,
        batch_size=BATCH,
        depth=2,
        width=8,
        config=CRLConfig(**config),
        architecture=ResidualArchitecture(block_size=2),
    )


@pytest.mark.parametrize("make", [crl, qrl, c_learning], ids=["crl", "qrl", "c_learning"])
def test_an_actor_that_imitates_holds_no_entropy(make):
    agent = make(behaviour_cloning=0.5)
    state = jax.jit(agent.init)(jax.random.key(0))
    new, metrics = jax.jit(agent.update)(state, small_buffer(), jax.random.key(1))
    assert float(new.log_alpha) == float(state.log_alpha)
    assert "action_likelihood" in metrics
    assert "alpha" not in metrics
    assert not np.array_equal(new.actor.head.weight, state.actor.head.weight)


def test_much_imitation_is_behavioural_cloning():
    """With a large weight, the loss is the squared error of gcbc on the same batch, but for the critic's part."""
    agent = crl(behaviour_cloning=1e6)
    state = jax.jit(agent.init)(jax.random.key(0))
    batch = agent.draw(small_buffer(), jax.random.key(2))
    loss = agent.losses(state.learning, jnp.ones(()), batch, jax.random.key(3))[1]["actor_loss"]
    gcbc = GCBC(
        OBSERVATION,
        GOAL,
        ACTION,
        batch_size=BATCH,
        depth=2,
        width=8,
        config=GCBCConfig(likelihood="constant_width"),
        architecture=ResidualArchitecture(block_size=2),
    )
    assert float(loss) / 1e6 == pytest.approx(
        float(gcbc.actor_loss(state.actor, batch, jax.random.key(0))[0]), rel=1e-4
    )


def test_the_width_of_the_density_is_one():
    mean, action = jnp.arctanh(jnp.array([[0.5, 0.0]])), jnp.array([[0.1, 0.2]])
    np.testing.assert_allclose(constant_width_density(mean, action), [-0.5 * (0.16 + 0.04)], rtol=1e-5)
