"""What SAC and TD3 share: acting, sparse rewards, learning from replay, and the catalog."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import twin_critic_cases as cases
from twin_critic_cases import (
    ACTION,
    BATCH,
    GOAL,
    MODES,
    OBSERVATION,
    act,
    agent_with,
    join,
    learn,
    normal,
    random_batch,
    random_state,
    small_buffer,
    value,
)

from kilolayer.agents import SAC, TD3, Agent, NetworkSettings, Problem, SACHERConfig, agent_spec, make_agent
from kilolayer.agents.core import gaussian_policy
from kilolayer.errors import ConfigurationError


@pytest.fixture(scope="module", params=[SAC, TD3], ids=["sac", "td3"])
def agent(request):
    return agent_with(request.param)


# ---- Networks ----------------------------------------------------------------------------------------------


def test_networks_have_the_depths_and_widths_asked_for(agent):
    agent = agent_with(type(agent), actor_depth=0, actor_width=4, critic_depth=6, critic_width=16)
    networks = agent.networks(jax.eval_shape(agent.init, jax.random.key(0)))
    assert {name: network.depth for name, network in networks.items()} == {"actor": 0, "critic_1": 6, "critic_2": 6}
    shapes = {name: network.input_layer.dense.weight.shape for name, network in networks.items()}
    critic = (OBSERVATION + ACTION + GOAL, 16)
    assert shapes == {"actor": (OBSERVATION + GOAL, 4), "critic_1": critic, "critic_2": critic}
    assert set(agent.parameter_counts()) == set(networks)


def test_a_new_agent_follows_its_key_and_its_targets_begin_as_its_networks(agent):
    assert isinstance(agent, Agent)
    init = jax.jit(agent.init)
    state, again, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    cases.assert_trees_close(again, state, rtol=0.0)
    assert np.all(other.actor.head.weight != state.actor.head.weight)
    assert np.all(state.critic.first.head.weight != state.critic.second.head.weight)
    cases.assert_trees_close(state.target_critic, state.critic, rtol=0.0)
    if isinstance(agent, TD3):
        cases.assert_trees_close(state.target_actor, state.actor, rtol=0.0)


# ---- Acting ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_actions_lie_within_one_whatever_the_leading_axes(agent, shape):
    observation, goal = 100.0 * normal(*shape, OBSERVATION), 100.0 * normal(*shape, GOAL, seed=1)
    for mode in MODES:
        actions = act(agent, random_state(agent), observation, goal, jax.random.key(0), mode=mode)
        assert actions.shape == (*shape, ACTION)
        assert np.all(np.abs(actions) <= 1.0)
        assert len(np.unique(actions)) > 1
    assert value(agent, random_state(agent), observation, goal).shape == shape


def test_only_the_deterministic_mode_ignores_the_key(agent):
    batch = random_batch()

    def actions(mode, seed):
        key = jax.random.key(seed)
        return np.asarray(act(agent, random_state(agent), batch.observation, batch.desired_goal, key, mode=mode))

    for mode in MODES:
        np.testing.assert_array_equal(actions(mode, 0), actions(mode, 0))
        assert np.any(actions(mode, 0) != actions(mode, 1)) == (mode != "deterministic")


def test_the_deterministic_action_is_tanh_of_the_actors_first_outputs_and_value_its_lower_q(agent):
    state, batch = random_state(agent), random_batch()
    output = agent.actor(state)(join(batch.observation, batch.desired_goal))
    action = act(agent, state, batch.observation, batch.desired_goal, jax.random.key(0))
    np.testing.assert_allclose(action, np.tanh(output[:, :ACTION]), rtol=1e-5, atol=1e-6)
    inputs = join(batch.observation, action, batch.desired_goal)
    both = np.stack([state.critic.first(inputs)[:, 0], state.critic.second(inputs)[:, 0]])
    assert len(np.unique(both.argmin(axis=0))) == 2
    values = value(agent, state, batch.observation, batch.desired_goal)
    np.testing.assert_allclose(values, both.min(axis=0), rtol=1e-5, atol=1e-6)


def draws(agent, state, observation, goal, key):
    """The candidates of best_of, written out."""
    shape = (agent.config.candidates, *observation.shape[:-1], ACTION)
    noise = jax.random.normal(key, shape)
    if isinstance(agent, TD3):
        mean = jnp.tanh(state.actor(join(observation, goal)))
        return jnp.clip(mean + agent.config.exploration_noise * noise, -1.0, 1.0)
    mean, log_std = gaussian_policy.policy(state.actor, observation, goal)
    return jnp.tanh(mean + jnp.exp(log_std) * noise)


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_best_of_takes_the_candidate_that_the_lower_critic_likes_best(agent, shape):
    agent = agent_with(type(agent), candidates=5)
    state, key = random_state(agent), jax.random.key(4)
    observation, goal = normal(*shape, OBSERVATION), normal(*shape, GOAL, seed=1)
    candidates = np.asarray(draws(agent, state, observation, goal, key))
    scores = np.stack([state.critic.least(observation, jnp.asarray(candidate), goal) for candidate in candidates])
    winner = np.argmax(scores, axis=0)
    expected = np.take_along_axis(candidates, winner[None, ..., None], axis=0)[0]
    action = act(agent, state, observation, goal, key, mode="best_of")
    np.testing.assert_allclose(action, expected, rtol=1e-5, atol=1e-6)
    assert shape == () or len(np.unique(winner)) > 1


def test_an_unknown_mode_is_refused(agent, no_type_checks):
    batch = random_batch()
    with pytest.raises(ConfigurationError, match="action mode 'greedy' is unknown; choose one of deterministic"):
        agent.act(random_state(agent), batch.observation, batch.desired_goal, jax.random.key(0), "greedy")


# ---- Learning ----------------------------------------------------------------------------------------------


def test_targets_are_sparse_and_end_with_a_failure(agent):
    batch, bootstrap = random_batch(), normal(BATCH, seed=9)
    reached = (np.arange(BATCH) % 3 == 0) & ~batch.terminated
    np.testing.assert_array_equal(agent.reward(batch), reached)
    assert 0 < reached.sum() < BATCH
    expected = np.where(batch.terminated, 0.0, reached + 0.99 * bootstrap)
    np.testing.assert_allclose(agent.backup(batch, bootstrap), expected, rtol=1e-6)


def test_steps_of_which_the_next_state_is_unknown_teach_the_critics_nothing(agent):
    state, batch, target = random_state(agent), random_batch(), normal(BATCH, seed=9)
    loss = jax.jit(lambda batch, target: agent.critic_loss(state.critic, batch, target)[0])
    assert 0 < np.sum(~batch.known) < BATCH
    elsewhere = jnp.where(batch.known, target, 1e3)
    np.testing.assert_allclose(loss(batch, elsewhere), loss(batch, target), rtol=1e-6)
    nothing = dataclasses.replace(batch, known=jnp.zeros(BATCH, bool))
    assert loss(nothing, target) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(("relabeled", "other"), [(0.0, 1.0), (1.0, 0.0)])
def test_update_learns_from_transitions_of_which_a_share_is_relabelled(agent, relabeled, other):
    key = jax.random.key(8)
    sample_key, learn_key = jax.random.split(key)
    learner, state = agent_with(type(agent), relabel_ratio=relabeled), random_state(agent)
    new, metrics = jax.jit(learner.update)(state, small_buffer(), key)
    batch, not_this = (
        agent_with(type(agent), relabel_ratio=s).draw(small_buffer(), sample_key) for s in (relabeled, other)
    )
    assert np.any(batch.desired_goal != not_this.desired_goal)
    expected, expected_metrics = learn(agent, state, batch, learn_key)
    cases.assert_trees_close(new.optimizers["critic"], expected.optimizers["critic"], rtol=1e-4, atol=1e-6)
    for name, number in expected_metrics.items():
        assert float(metrics[name]) == pytest.approx(float(number), rel=1e-4), name


def test_a_step_moves_every_network_by_its_own_learning_rate(agent):
    settings = {"policy_delay": 1} if isinstance(agent, TD3) else {}
    agent = agent_with(type(agent), actor_learning_rate=1e-3, critic_learning_rate=2e-3, **settings)
    state = jax.jit(agent.init)(jax.random.key(0))
    new, _ = learn(agent, state, random_batch(), jax.random.key(0))
    for part, learning_rate in (("actor", 1e-3), ("critic", 2e-3)):
        pairs = zip(*(jax.tree.leaves(getattr(s, part)) for s in (state, new)), strict=True)
        for old_leaf, new_leaf in pairs:
            # Adam's first step is the learning rate, whatever the gradient.
            assert np.abs(new_leaf - old_leaf).max() == pytest.approx(learning_rate, rel=1e-2)


@pytest.mark.slow
def test_metrics_are_finite_and_the_same_in_every_step(agent):
    state = jax.jit(agent.init)(jax.random.key(0))
    batch, names = random_batch(), set()
    for step in range(3):
        state, metrics = learn(agent, state, batch, jax.random.key(step))
        assert all(np.isfinite(number) for number in metrics.values())
        names.add(tuple(sorted(metrics)))
    assert len(names) == 1
    assert {"actor_loss", "critic_loss", "q", "reward"} <= set(metrics)
    rewarded = (np.arange(BATCH) % 3 == 0) & ~batch.terminated
    assert float(metrics["reward"]) == pytest.approx(float(rewarded[batch.known].mean()), rel=1e-6)


def test_diagnosis_looks_at_actor_and_both_critics_with_their_gradients(agent):
    key = jax.random.key(2)
    found = jax.jit(agent.diagnose)(random_state(agent), small_buffer(), key)
    assert {name.split("/")[0] for name in found} == {"actor", "critic_1", "critic_2"}
    assert all(np.all(np.isfinite(values)) for values in found.values())
    assert all(np.all(found[f"{name}/gradient_norm"] > 0.0) for name in ("actor", "critic_1", "critic_2"))
    assert found["critic_1/gradient_norm"] != found["critic_2/gradient_norm"]


# ---- Settings and the catalog ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "wrong", "message"),
    [
        ("discount", 1.0, "discount=1.0 must be above 0 and below 1"),
        ("discount", 0.0, "discount=0.0 must be above 0 and below 1"),
        ("target_rate", 0.0, "target_rate=0.0 must be above 0"),
        ("target_rate", 1.5, "target_rate=1.5 must be from 0 to 1"),
        ("actor_learning_rate", 0.0, "actor_learning_rate=0.0 must be above 0"),
        ("critic_learning_rate", float("nan"), "critic_learning_rate=nan must be a finite number"),
        ("candidates", 0, "candidates=0 must be at least 1"),
        ("actor_width", 0, "actor_width=0 must be at least 1"),
        ("critic_width", -8, "critic_width=-8 must be at least 1"),
        ("actor_depth", 3, "actor_depth: depth=3 is not a multiple of block_size=2; try 2 or 4"),
        ("critic_depth", -2, "critic_depth: depth=-2 must be 0 or a multiple of block_size=2"),
        ("batch_size", 0, "batch_size=0 must be at least 1"),
    ],
)
def test_impossible_settings_are_refused_by_name(agent, no_type_checks, option, wrong, message):
    with pytest.raises(ConfigurationError) as error:
        agent_with(type(agent), **{option: wrong})
    assert str(error.value) == message


def test_a_ratio_of_hindsight_that_is_none_is_refused():
    with pytest.raises(ConfigurationError, match=r"^relabel_ratio=1.1 must be from 0 to 1$"):
        SACHERConfig(relabel_ratio=1.1)


PROBLEM = Problem("line", OBSERVATION, GOAL, ACTION, episode_length=8, unroll_length=4, success=cases.close)


@pytest.mark.parametrize(
    ("name", "kind", "settings", "relabel_ratio"),
    [
        ("sac", SAC, {}, 0.0),
        ("sac_her", SAC, {"relabel_ratio": 0.4}, 0.4),
        ("td3", TD3, {}, 0.0),
        ("td3_her", TD3, {"relabel_ratio": 0.4}, 0.4),
    ],
)
def test_the_registry_builds_each_with_and_without_hindsight(name, kind, settings, relabel_ratio):
    config = agent_spec(name).settings(discount=0.7, **settings)
    built = make_agent(name, PROBLEM, config, NetworkSettings(batch_size=BATCH, depth=8, width=16))
    assert type(built) is kind
    assert (built.config.discount, built.relabel_ratio, built.success) == (0.7, relabel_ratio, cases.close)
    assert (built.observation_size, built.goal_size, built.action_size) == (OBSERVATION, GOAL, ACTION)
    assert (built.batch_size, built.depth, built.width) == (BATCH, 8, 16)
    with pytest.raises(ConfigurationError, match=f"agent='{name}' is rewarded for reached goals"):
        make_agent(name, dataclasses.replace(PROBLEM, success=None), config, NetworkSettings())
    with pytest.raises(ConfigurationError, match=f"agent='{name}' is for continuous actions"):
        make_agent(name, dataclasses.replace(PROBLEM, discrete_actions=True), config, NetworkSettings())
