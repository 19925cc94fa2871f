"""What C-learning and quasimetric RL share: acting, goals, the actor's loss, updates and diagnoses."""

import functools

import goal_agents
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from goal_agents import ACTION, BATCH, GOAL, OBSERVATION, first_state, normal, random_batch, small_buffer

from kilolayer.agents import Agent, NetworkSettings, Problem, grow_agent, make_agent
from kilolayer.agents.core.random_goal_actor import random_goals
from kilolayer.data import sample_transitions
from kilolayer.errors import ConfigurationError
from kilolayer.nn import ResidualArchitecture
from kilolayer.runs import TrainConfig

MODES = ["deterministic", "stochastic", "best_of"]
MAKERS = {"c_learning": goal_agents.c_learning, "qrl": goal_agents.qrl}
KEY = jax.random.key(4)


@functools.partial(jax.jit, static_argnums=(0, 1))
def act(agent, mode, state, observation, goal, key=KEY):
    return agent.act(state, observation, goal, key, mode)


@functools.partial(jax.jit, static_argnums=0)
def actor_output(agent, state, observation, goal):
    """Return means, and deviations before the tanh."""
    output = agent.actor(state)(jnp.concatenate([observation, goal], axis=-1))
    return output[..., :ACTION], jnp.exp(-5.0 + 3.5 * (jnp.tanh(output[..., ACTION:]) + 1.0))


@pytest.fixture(scope="module", params=MAKERS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def agent(name):
    return MAKERS[name]()


def lively(state):
    """Return a state with every number changed, moments of optimisers too."""
    return jax.tree.map(lambda leaf: leaf + (0.25 if jnp.issubdtype(leaf.dtype, jnp.floating) else 7), state)


# ---- Acting ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_actions_lie_within_one_whatever_the_leading_axes(agent, shape):
    @jax.jit
    def all_modes(state, observation, goal, key):
        return [agent.act(state, observation, goal, key, mode) for mode in MODES], agent.value(state, observation, goal)

    observation, goal = 100.0 * normal(*shape, OBSERVATION), 100.0 * normal(*shape, GOAL, seed=1)
    actions_by_mode, value = all_modes(first_state(agent), observation, goal, jax.random.key(0))
    assert value.shape == shape
    for actions in actions_by_mode:
        assert actions.shape == (*shape, ACTION)
        assert np.all(np.abs(actions) <= 1.0)
        assert len(np.unique(actions)) > 1


def test_the_deterministic_action_is_tanh_of_the_actors_first_outputs(agent):
    state, batch = first_state(agent), random_batch()
    mean, _ = actor_output(agent, state, batch.observation, batch.desired_goal)
    actions = [
        act(agent, "deterministic", state, batch.observation, batch.desired_goal, jax.random.key(seed))
        for seed in (0, 1)
    ]
    np.testing.assert_allclose(actions[0], np.tanh(mean), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(*actions)


def test_best_of_takes_the_candidate_of_highest_score(agent):
    state, batch = first_state(agent), random_batch()
    mean, std = actor_output(agent, state, batch.observation, batch.desired_goal)
    candidates = jnp.tanh(mean + std * jax.random.normal(KEY, (agent.config.candidates, BATCH, ACTION)))
    score = jax.jit(agent.score)
    scores = jnp.stack([score(state.critic, batch.observation, c, batch.desired_goal) for c in candidates])
    expected = candidates[jnp.argmax(scores, axis=0), jnp.arange(BATCH)]
    chosen = act(agent, "best_of", state, batch.observation, batch.desired_goal)
    np.testing.assert_allclose(chosen, expected, rtol=1e-4, atol=1e-6)


def test_an_unknown_mode_is_refused(agent, no_type_checks):
    batch = random_batch()
    with pytest.raises(ConfigurationError, match="action mode 'greedy' is unknown; choose one of deterministic"):
        agent.act(first_state(agent), batch.observation, batch.desired_goal, jax.random.key(0), "greedy")


# ---- Goals -------------------------------------------------------------------------------------------------


def test_random_goals_are_what_other_transitions_achieved():
    batch = random_batch()
    goals = np.asarray(random_goals(batch))
    achieved = np.asarray(batch.next_achieved_goal)
    assert not np.any(np.all(goals == achieved, axis=1))
    assert sorted(goals.tolist()) == sorted(achieved.tolist())


@pytest.mark.parametrize(("share", "rows"), [(0.0, 0), (0.25, 2), (1.0, BATCH)])
def test_a_share_of_the_actors_goals_is_hindsights(name, share, rows):
    batch = random_batch()
    goals = MAKERS[name](hindsight=share).actor_goals(batch)
    np.testing.assert_array_equal(goals[:rows], batch.desired_goal[:rows])
    np.testing.assert_array_equal(goals[rows:], random_goals(batch)[rows:])


# ---- Learning ----------------------------------------------------------------------------------------------


def test_the_actor_loss_is_the_one_written_out(agent):
    state, batch, key = first_state(agent), random_batch(), jax.random.key(3)
    goal = jnp.concatenate([batch.desired_goal[: BATCH // 2], random_goals(batch)[BATCH // 2 :]])
    mean, std = map(np.asarray, actor_output(agent, state, batch.observation, goal))
    noise = np.asarray(jax.random.normal(key, (BATCH, ACTION)))
    action = np.tanh(mean + std * noise)
    gaussian = -0.5 * noise**2 - np.log(std * np.sqrt(2.0 * np.pi))
    log_density = np.sum(gaussian - np.log(1.0 - action**2 + 1e-6), axis=-1)
    score = jax.jit(agent.score)(state.critic, batch.observation, jnp.asarray(action), goal)
    loss, metrics = jax.jit(agent.actor_loss)(state.actor, state.critic, jnp.asarray(0.3), batch, key)
    assert float(loss) == pytest.approx(float(np.mean(0.3 * log_density - score)), rel=1e-4)
    assert float(metrics["entropy"]) == pytest.approx(-float(np.mean(log_density)), rel=1e-4)


@pytest.mark.slow
def test_update_learns_from_transitions_with_goals_in_hindsight(agent):
    key, state = jax.random.key(8), first_state(agent)
    sample_key, learn_key = jax.random.split(key)
    batch = sample_transitions(small_buffer(), (BATCH,), sample_key, relabeled=1.0)
    updated, metrics = jax.jit(agent.update)(state, agent.prepare(state, small_buffer()), key)
    learned, expected = jax.jit(agent.learn)(state, batch, learn_key)
    assert set(metrics) == set(expected)
    for metric, value in expected.items():
        assert np.isfinite(value)
        assert float(metrics[metric]) == pytest.approx(float(value), rel=1e-3, abs=1e-5), metric
    for part in ("actor", "critic"):
        states = (jax.tree.leaves(each.optimizers[part]) for each in (updated, learned))
        for ours, theirs in zip(*states, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("target", "sign"), [(50.0, 1.0), (-50.0, -1.0)])
def test_alpha_moves_the_entropy_towards_its_target(name, target, sign):
    agent = MAKERS[name](target_entropy=target)
    state = first_state(agent)
    assert float(jnp.exp(state.log_alpha)) == pytest.approx(agent.config.initial_alpha)
    _, log_alpha, _, _ = jax.jit(agent.learn_actor)(state, random_batch(), state.optimizers, KEY)
    assert float(log_alpha - state.log_alpha) == pytest.approx(sign * agent.config.alpha_learning_rate, rel=1e-2)


# ---- Growing and looking inside ----------------------------------------------------------------------------


@pytest.mark.slow
def test_growing_changes_no_action_and_no_value(name, agent):
    state, batch = lively(first_state(agent)), random_batch()
    deep = MAKERS[name](depth=6)
    deep_state = jax.jit(functools.partial(grow_agent, deep))(state, jax.random.key(5))
    assert {network.depth for network in deep.networks(deep_state).values()} == {6}
    (action, value), (deep_action, deep_value) = (
        jax.jit(
            lambda state, each=each: (
                each.act(state, batch.observation, batch.desired_goal, KEY),
                each.value(state, batch.observation, batch.desired_goal),
            )
        )(its_state)
        for each, its_state in ((agent, state), (deep, deep_state))
    )
    np.testing.assert_allclose(deep_action, action, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(deep_value, value, rtol=1e-4)


def test_every_network_is_described_by_block(agent):
    found = jax.jit(agent.diagnose)(first_state(agent), small_buffer(), jax.random.key(0))
    assert {entry.split("/")[0] for entry in found} == set(agent.parameter_counts())
    for network in agent.parameter_counts():
        assert found[f"{network}/gradient_norm"].shape == (1,)
        assert found[f"{network}/gradient_norm"] > 0.0
    assert all(np.all(np.isfinite(value)) for value in found.values())


# ---- Being built -------------------------------------------------------------------------------------------


def test_the_catalog_builds_it_with_its_block(name):
    problem = Problem("a world", OBSERVATION, GOAL, ACTION, episode_length=20, unroll_length=10)
    networks = NetworkSettings(batch_size=BATCH, depth=2, width=8, architecture=ResidualArchitecture(block_size=2))
    block = type(MAKERS[name]().config)(actor_learning_rate=0.123)
    agent = make_agent(name, problem, block, networks)
    assert isinstance(agent, Agent)
    assert agent.config is block
    assert (agent.batch_size, agent.depth, agent.width) == (BATCH, 2, 8)


def test_settings_of_the_other_agent_are_refused(name):
    other = next(other for other in MAKERS if other != name)
    with pytest.raises(ConfigurationError, match=rf"{other}.hindsight=0.1 has no effect with agent='{name}'"):
        TrainConfig.from_dict({"env": "point_u_maze", "agent": name, other: {"hindsight": 0.1}})


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("hindsight", 1.5, "hindsight=1.5 must be from 0 to 1"),
        ("initial_alpha", 0.0, "initial_alpha=0.0 must be above 0"),
        ("actor_learning_rate", 0.0, "actor_learning_rate=0.0 must be above 0"),
        ("critic_learning_rate", -1.0, "critic_learning_rate=-1.0 must be above 0"),
        ("alpha_learning_rate", -0.1, "alpha_learning_rate=-0.1 must not be negative"),
        ("target_entropy", float("nan"), "target_entropy=nan must be a finite number"),
        ("candidates", 0, "candidates=0 must be at least 1"),
        ("actor_width", 0, "actor_width=0 must be at least 1"),
        ("critic_width", -8, "critic_width=-8 must be at least 1"),
        ("actor_depth", 3, "actor_depth: depth=3 is not a multiple of block_size=2; try 2 or 4"),
        ("critic_depth", -2, "critic_depth: depth=-2 must be 0 or a multiple"),
        ("width", 0, "width=0 must be at least 1"),
        ("batch_size", 1, "batch_size=1 leaves no goals of other states; take at least 2"),
    ],
)
def test_impossible_settings_are_refused_by_name(name, option, value, message):
    with pytest.raises(ConfigurationError) as error:
        MAKERS[name](**{option: value})
    assert message in str(error.value)
    assert "\n" not in str(error.value)
