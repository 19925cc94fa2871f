"""Contrastive RL with discrete actions: one-hot actions from the critic's softmax, and settings that cannot be."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from crl_cases import GOAL, OBSERVATION, normal

from kilolayer.agents import CRL, CRLConfig, CRLDiscrete, CRLDiscreteConfig
from kilolayer.data import Batch, Trajectory, empty_buffer, insert
from kilolayer.errors import ConfigurationError
from kilolayer.nn import ResidualArchitecture
from kilolayer.objectives import Energy
from kilolayer.training import Setup
from small_runs import small_config

ACTIONS = 3


def agent_with(*, batch_size=8, depth=2, temperature=1.0, kind=CRLDiscrete, **crl):
    config = CRLDiscreteConfig(policy_temperature=temperature, **crl) if kind is CRLDiscrete else CRLConfig(**crl)
    return kind(
        OBSERVATION,
        GOAL,
        ACTIONS,
        batch_size=batch_size,
        depth=depth,
        width=8,
        architecture=ResidualArchitecture(block_size=2),
        config=config,
    )


AGENT = agent_with()
act = jax.jit(CRLDiscrete.act, static_argnums=0, static_argnames="mode")


@functools.cache
def state():
    return jax.jit(AGENT.init)(jax.random.key(0))


@functools.cache
def small_buffer():
    length, num_envs = 24, 3
    choices = np.random.default_rng(5).integers(0, ACTIONS, (length, num_envs))
    trajectory = Trajectory(
        observation=normal(length, num_envs, OBSERVATION),
        achieved_goal=normal(length, num_envs, GOAL, seed=1),
        desired_goal=normal(length, num_envs, GOAL, seed=3),
        action=jax.nn.one_hot(choices, ACTIONS),
        terminated=jnp.zeros((length, num_envs), bool),
        done=jnp.zeros((length, num_envs), bool).at[11].set(True),
        diverged=jnp.zeros((length, num_envs), bool),
    )
    return insert(empty_buffer(length, num_envs, OBSERVATION, GOAL, ACTIONS), trajectory)


# ---- Acting ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_actions_are_one_hot_whatever_the_leading_axes(shape):
    observation, goal = 10.0 * normal(*shape, OBSERVATION), 10.0 * normal(*shape, GOAL, seed=1)
    for mode in ("deterministic", "stochastic", "best_of"):
        action = np.asarray(act(AGENT, state(), observation, goal, jax.random.key(0), mode=mode))
        assert action.shape == (*shape, ACTIONS)
        assert action.dtype == np.float32
        assert set(np.unique(action)) == {0.0, 1.0}
        np.testing.assert_array_equal(action.sum(axis=-1), np.ones(shape))
    value = jax.jit(AGENT.value)(state(), observation, goal)
    assert value.shape == shape


def energies(observation, goal):
    """f(s, a, g) of every action, one by one; actions first."""
    critic = state().critic
    every = []
    for action in np.eye(ACTIONS, dtype=np.float32):
        actions = jnp.broadcast_to(action, (*observation.shape[:-1], ACTIONS))
        every.append(Energy("l2").pairs(critic.encode_state_action(observation, actions), critic.encode_goal(goal)))
    return np.stack(every)


def test_the_deterministic_action_and_the_best_of_are_those_of_the_largest_energy_and_so_is_the_value():
    observation, goal = normal(20, OBSERVATION), normal(20, GOAL, seed=1)
    expected = energies(observation, goal)
    assert len(np.unique(expected.argmax(axis=0))) > 1
    for mode in ("deterministic", "best_of"):
        action = act(AGENT, state(), observation, goal, jax.random.key(0), mode=mode)
        np.testing.assert_array_equal(np.argmax(action, axis=-1), expected.argmax(axis=0))
    np.testing.assert_allclose(jax.jit(AGENT.value)(state(), observation, goal), expected.max(axis=0), rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_stochastic_actions_are_as_frequent_as_the_softmax_says(temperature):
    agent, draws = agent_with(temperature=temperature), 40_000
    observation, goal = normal(OBSERVATION), normal(GOAL, seed=1)
    logits = energies(observation, goal) / temperature
    chances = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    shape = (draws, 1)
    actions = act(
        agent, state(), jnp.tile(observation, shape), jnp.tile(goal, shape), jax.random.key(1), mode="stochastic"
    )
    # Four standard errors of a frequency are at most 0.01.
    np.testing.assert_allclose(np.mean(actions, axis=0), chances, atol=0.01)
    assert chances.min() < 0.3


def test_there_is_no_actor_and_an_unknown_mode_is_refused(no_type_checks):
    assert AGENT.actor(state()) is None
    with pytest.raises(ConfigurationError, match="action mode 'greedy' is unknown; choose one of deterministic"):
        AGENT.act(state(), normal(OBSERVATION), normal(GOAL), jax.random.key(0), "greedy")


# ---- Learning ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_critic_learns_as_that_of_crl_does():
    """The same loss and the same Adam step, on the batch that the key draws."""
    key = jax.random.key(2)
    crl = agent_with(kind=CRL)
    batch: Batch = AGENT.draw(small_buffer(), key)
    with_actor = dataclasses.replace(jax.jit(crl.init)(jax.random.key(0)), critic=state().critic)
    expected, expected_metrics = jax.jit(crl.learn)(with_actor, batch, key)
    learnt, metrics = jax.jit(AGENT.update)(state(), small_buffer(), key)
    moved = 0
    for ours, theirs, old in zip(*map(jax.tree.leaves, (learnt.critic, expected.critic, state().critic)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
        moved += bool(np.any(ours != old))
    assert moved == len(jax.tree.leaves(learnt.critic))
    assert set(metrics) < set(expected_metrics)
    for name, value in metrics.items():
        assert float(value) == pytest.approx(float(expected_metrics[name]), rel=1e-4), name


def test_its_networks_are_phi_and_psi_and_diagnostics_see_both():
    agent = agent_with(goal_encoder_depth=4)
    assert list(agent.parameter_counts()) == ["phi", "psi"]
    found = jax.jit(lambda key: agent.diagnose(agent.init(key), small_buffer(), key))(jax.random.key(0))
    assert {name.split("/")[0] for name in found} == {"phi", "psi"}
    assert found["phi/gradient_norm"].shape == (1,)
    assert found["psi/gradient_norm"].shape == (2,)
    assert np.all(found["psi/gradient_norm"] > 0.0)


# ---- Settings ----------------------------------------------------------------------------------------------


def test_it_has_the_settings_of_the_critic_and_none_of_an_actor():
    """Those of the critic change it as `test_crl_options` shows."""
    critic = {"energy", "temperature", "loss", "logsumexp_penalty", "discount", "trajectory_repeats", "negatives"}
    critic |= {"representation_size", "critic_depth", "goal_encoder_depth", "critic_width", "critic_learning_rate"}
    names = {field.name for field in dataclasses.fields(CRLDiscreteConfig)}
    assert names == critic | {"policy_temperature"}
    assert critic < {field.name for field in dataclasses.fields(CRLConfig)}


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_is_above_0(temperature):
    with pytest.raises(ConfigurationError, match=r"policy_temperature=.* must be"):
        CRLDiscreteConfig(policy_temperature=temperature)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"env": "point_u_maze_discrete", "agent": "crl"},
            "agent='crl' is for continuous actions, and those of env 'point_u_maze_discrete' are discrete; "
            "take agent=crl_discrete",
        ),
        (
            {"env": "point_u_maze", "agent": "crl_discrete"},
            "agent='crl_discrete' is for discrete actions, and those of env 'point_u_maze' are continuous; take agent=",
        ),
        (
            {"env": "#####\n#R.G#\n#####\n", "agent": "crl_discrete"},
            "agent='crl_discrete' is for discrete actions, and those of env 'point_maze' are continuous",
        ),
        (
            {"env": "point_u_maze_discrete", "eval_env": "point_u_maze"},
            "eval_env 'point_u_maze' does not fit env 'point_u_maze_discrete': its action_size is 2, not 9",
        ),
        (
            {"env": "point_u_maze", "crl_discrete": {"policy_temperature": 0.5}},
            "crl_discrete.policy_temperature=0.5 has no effect with agent='crl'",
        ),
        (
            {"env": "point_u_maze_discrete", "crl": {"target_entropy": -1.0}},
            "crl.target_entropy=-1.0 has no effect with agent='crl_discrete'",
        ),
        (
            {"env": "point_u_maze_discrete", "crl_discrete": {"trajectory_repeats": 3}},
            "trajectory_repeats=3 does not divide batch_size=16; take 2 or 4",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(settings, message):
    with pytest.raises(ConfigurationError) as error:
        Setup.build(small_config(**settings))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_discrete_environment_names_its_agent():
    setup = Setup.build(small_config(env="point_u_maze_discrete", crl_discrete={"policy_temperature": 0.5}))
    assert isinstance(setup.agent, CRLDiscrete)
    assert setup.agent.config.policy_temperature == 0.5
    assert setup.agent.config.loss == "infonce_symmetric"
    assert setup.eval_environment.name == "point_u_maze_eval_discrete"
