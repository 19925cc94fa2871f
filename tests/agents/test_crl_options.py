"""Every option of contrastive RL changes what it says, and what cannot be is refused."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from crl_cases import (
    ACTION,
    AGENT,
    GOAL,
    OBSERVATION,
    agent_with,
    first_state,
    loss_of_actor,
    normal,
    random_batch,
    small_buffer,
)

from kilolayer.agents import CRLConfig
from kilolayer.agents.core import gaussian_policy
from kilolayer.errors import ConfigurationError
from kilolayer.training import Setup
from small_runs import small_config


def outcome(agent):
    """Say what an agent makes of one buffer: its losses, their pull on alpha, and an action."""

    @jax.jit
    def look(state, batch, observation, goal):
        critic_loss, _ = agent.loss_of_critic(state.critic, batch)
        actor_loss, metrics = loss_of_actor(agent, state, jnp.ones(()), batch, jax.random.key(1))
        return {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "alpha_loss": gaussian_policy.alpha_loss(state.log_alpha, metrics["entropy"], agent.target_entropy),
            "best_of": agent.act(state, observation, goal, jax.random.key(2), "best_of"),
        }

    batch = dataclasses.replace(agent, batch_size=16).draw(small_buffer(), jax.random.key(0))
    return look(first_state(agent), batch, normal(5, OBSERVATION), normal(5, GOAL, seed=1))


ALL_LOSSES = {"actor_loss", "critic_loss", "alpha_loss"}
OPTIONS = {
    "energy": ("dot", {"actor_loss", "critic_loss", "best_of"}),
    "temperature": (0.5, {"actor_loss", "critic_loss"}),
    "loss": ("binary_nce", {"critic_loss"}),
    "logsumexp_penalty": (0.5, {"critic_loss"}),
    "discount": (0.2, ALL_LOSSES),
    "representation_size": (16, {"actor_loss", "critic_loss", "best_of"}),
    "actor_depth": (4, {"actor_loss", "alpha_loss", "best_of"}),
    "critic_depth": (0, {"actor_loss", "critic_loss", "best_of"}),
    "actor_width": (16, {"actor_loss", "alpha_loss", "best_of"}),
    "critic_width": (16, {"actor_loss", "critic_loss", "best_of"}),
    "target_entropy": (0.5, {"alpha_loss"}),
    "trajectory_repeats": (4, ALL_LOSSES),
    "goal_encoder_depth": (0, {"actor_loss", "critic_loss", "best_of"}),
    "actor_goals": ("resampled", {"actor_loss", "alpha_loss"}),
    "action_chunk": (2, {*ALL_LOSSES, "best_of"}),
    "candidates": (2, {"best_of"}),
    "critics": (2, {"actor_loss", "best_of"}),
    "survival_weight": (0.5, {"actor_loss"}),
    "behaviour_cloning": (0.5, {"actor_loss"}),
}
# They change what a weight on survival adds; shown in `test_crl_survival`.
OF_SURVIVAL = {"survival_discount", "survival_depth"}
# Shown by what a chunk returns.
OF_CHUNKS = {"execute"}
# Shown by a batch of two shards.
OF_SHARDS = {"negatives"}
# Shown by the step that moves every parameter by its own learning rate.
LEARNING_RATES = {"actor_learning_rate", "critic_learning_rate", "alpha_learning_rate"}


def test_every_option_is_listed_here():
    assert set(OPTIONS) | LEARNING_RATES | OF_SURVIVAL | OF_CHUNKS | OF_SHARDS == {
        field.name for field in dataclasses.fields(CRLConfig)
    }


@functools.cache
def default_outcome():
    return outcome(AGENT)


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_changes_what_it_says_and_nothing_else(option):
    value, expected = OPTIONS[option]
    assert getattr(CRLConfig(), option) != value
    agent = agent_with(**{option: value})
    ours = outcome(agent)
    ours["best_of"] = ours["best_of"].reshape(5, -1, ACTION)[:, 0]  # of a chunk its first action
    changed = {name for name, plain in default_outcome().items() if not np.allclose(ours[name], plain, rtol=1e-3)}
    assert changed == expected


def test_local_negatives_are_those_of_the_shard():
    whole, local = agent_with(shards=2), agent_with(shards=2, negatives="local")
    ours, plain = outcome(local), outcome(whole)
    assert {name for name in plain if not np.allclose(ours[name], plain[name], rtol=1e-3)} == {"critic_loss"}
    phi, psi = normal(8, 64), normal(8, 64, seed=1)
    halves = [AGENT.critic_loss(phi[half], psi[half])[0] for half in (slice(0, 4), slice(4, 8))]
    np.testing.assert_allclose(local.critic_loss(phi, psi)[0], np.mean(halves), rtol=1e-6)
    np.testing.assert_allclose(whole.critic_loss(phi, psi)[0], AGENT.critic_loss(phi, psi)[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "negatives='local' has no effect with one shard"),
        ({"shards": 8}, "leaves no negatives where each of 8 shards has one row of batch_size=8"),
        (
            {"shards": 2, "trajectory_repeats": 8},
            "trajectory_repeats=8 does not divide batch_size=8 in each of 2 shards, of 4 rows; take 2 or 4",
        ),
    ],
)
def test_what_a_shard_cannot_have_is_refused(settings, message):
    with pytest.raises(ConfigurationError) as error:
        agent_with(negatives="local", **settings)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("negatives", "near", "negatives='near' is unknown; choose one of global, local"),
        ("energy", "l1", "energy='l1' is unknown"),
        ("loss", "triplet", "loss='triplet' is unknown"),
        ("temperature", 0.0, "temperature=0.0 must be above 0"),
        ("discount", 0.0, "discount=0.0 must be above 0 and at most 1"),
        ("discount", 1.01, "discount=1.01 must be above 0 and at most 1"),
        ("discount", float("nan"), "discount=nan must be"),
        ("logsumexp_penalty", -0.1, "logsumexp_penalty=-0.1 must not be negative"),
        ("logsumexp_penalty", float("nan"), "logsumexp_penalty=nan must be a finite number"),
        ("actor_learning_rate", 0.0, "actor_learning_rate=0.0 must be above 0"),
        ("critic_learning_rate", -1.0, "critic_learning_rate=-1.0 must be above 0"),
        ("alpha_learning_rate", float("nan"), "alpha_learning_rate=nan must be a finite number"),
        ("representation_size", 0, "representation_size=0 must be at least 1"),
        ("candidates", 0, "candidates=0 must be at least 1"),
        ("action_chunk", 0, "action_chunk=0 must be at least 1"),
        ("trajectory_repeats", 0, "trajectory_repeats=0 must be at least 1"),
        ("trajectory_repeats", 3, "trajectory_repeats=3 does not divide batch_size=8; take 2 or 4"),
        ("trajectory_repeats", 16, "trajectory_repeats=16 does not divide batch_size=8; take 4 or 8"),
        ("actor_goals", "commanded", "actor_goals='commanded' is unknown; choose one of hindsight, resampled"),
        ("actor_width", 0, "actor_width=0 must be at least 1"),
        ("critic_width", -8, "critic_width=-8 must be at least 1"),
        ("actor_depth", 3, "actor_depth: depth=3 is not a multiple of block_size=2; try 2 or 4"),
        ("critic_depth", -2, "critic_depth: depth=-2 must be 0 or a multiple"),
        ("goal_encoder_depth", 3, "goal_encoder_depth: depth=3 is not a multiple of block_size=2; try 2 or 4"),
        ("depth", 5, "depth=5 is not a multiple of block_size=2; try 4 or 6"),
        ("width", 0, "width=0 must be at least 1"),
        ("batch_size", 0, "batch_size=0 must be at least 1"),
        ("batch_size", 1, "batch_size=1 leaves contrastive RL no negatives"),
    ],
)
def test_impossible_settings_are_refused_by_name(no_type_checks, option, value, message):
    with pytest.raises(ConfigurationError) as error:
        agent_with(**{option: value})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_defaults_are_the_papers():
    assert dataclasses.asdict(CRLConfig()) == {
        "energy": "l2",
        "temperature": None,
        "loss": "infonce_forward",
        "logsumexp_penalty": 0.1,
        "discount": 0.99,
        "trajectory_repeats": 1,
        "negatives": "global",
        "representation_size": 64,
        "actor_depth": None,
        "critic_depth": None,
        "goal_encoder_depth": None,
        "actor_width": None,
        "critic_width": None,
        "actor_learning_rate": 3e-4,
        "critic_learning_rate": 3e-4,
        "alpha_learning_rate": 3e-4,
        "target_entropy": -0.5,
        "actor_goals": "hindsight",
        "action_chunk": 1,
        "execute": "chunk",
        "candidates": 16,
        "critics": 1,
        "survival_weight": 0.0,
        "survival_discount": 0.99,
        "survival_depth": None,
        "behaviour_cloning": 0.0,
    }


# ---- Action chunks -----------------------------------------------------------------------------------------

CHUNK = 3
CHUNKED = agent_with(action_chunk=CHUNK)
FIRST = agent_with(action_chunk=CHUNK, execute="first")


def test_a_chunk_is_as_many_actions_for_actor_and_critic_and_one_for_the_world():
    state = jax.eval_shape(CHUNKED.init, jax.random.key(0))
    assert state.actor.head.bias.shape == (2 * CHUNK * ACTION,)
    assert state.critic.phi.input_layer.dense.weight.shape == (OBSERVATION + CHUNK * ACTION, 8)
    assert CHUNKED.target_entropy == -0.5 * CHUNK * ACTION
    batch = CHUNKED.draw(small_buffer(), jax.random.key(0))
    assert batch.action.shape == (8, CHUNK * ACTION)


@pytest.mark.parametrize("mode", ["deterministic", "stochastic", "best_of"])
def test_the_chunk_is_returned_or_its_first_action(mode):
    state, batch, key = first_state(CHUNKED), random_batch(), jax.random.key(3)

    @jax.jit
    def chosen(observation, goal):
        mean, log_std = gaussian_policy.policy(CHUNKED.actor(state), observation, goal)

        def score(chunks):
            phi = state.critic.encode_state_action(jnp.broadcast_to(observation, (16, 8, OBSERVATION)), chunks)
            return CHUNKED.energy.pairs(phi, jnp.broadcast_to(state.critic.encode_goal(goal), phi.shape))

        chunk = gaussian_policy.choose(mean, log_std, key, mode, candidates=16, score=score)
        mean_chunk = jnp.tanh(state.actor(jnp.concatenate([observation, goal], axis=-1)))[:, : CHUNK * ACTION]
        return chunk, mean_chunk

    expected, mean_chunk = chosen(batch.observation, batch.desired_goal)
    for agent, size in ((CHUNKED, CHUNK * ACTION), (FIRST, ACTION)):
        action = jax.jit(lambda *pair, agent=agent: agent.act(state, *pair, key, mode))(
            batch.observation, batch.desired_goal
        )
        assert action.shape == (8, agent.executed_actions * ACTION)
        np.testing.assert_allclose(action, expected[:, :size], rtol=1e-4, atol=1e-6)
        assert np.allclose(action, mean_chunk[:, :size], atol=1e-5) == (mode == "deterministic")


def test_rows_whose_chunk_crosses_the_end_count_for_nothing():
    """Neither what their actions are nor which goal they have changes the gradient of a critic."""
    state, batch = first_state(CHUNKED), CHUNKED.draw(small_buffer(), jax.random.key(0))
    assert batch.valid.shape == (8,)
    batch = dataclasses.replace(batch, valid=jnp.arange(8) != 3)
    other = dataclasses.replace(batch, action=batch.action.at[3].set(0.7))

    for loss in ("infonce_symmetric", "binary_nce"):
        agent = agent_with(action_chunk=CHUNK, loss=loss)
        gradient = jax.jit(jax.grad(lambda critic, batch, agent=agent: agent.loss_of_critic(critic, batch)[0]))
        ours, theirs = gradient(state.critic, batch), gradient(state.critic, other)
        for one, another in zip(jax.tree.leaves(ours.phi), jax.tree.leaves(theirs.phi), strict=True):
            np.testing.assert_allclose(one, another, rtol=1e-4, atol=1e-7)
        every = dataclasses.replace(batch, valid=None)
        assert any(
            np.any(np.abs(one - another) > 1e-5)
            for one, another in zip(
                jax.tree.leaves(ours.phi), jax.tree.leaves(gradient(state.critic, every).phi), strict=True
            )
        )


def test_every_action_of_the_chunk_is_trained():
    """The gradient of the actor's loss reaches the means and deviations of all of them."""
    state, batch, key = first_state(CHUNKED), CHUNKED.draw(small_buffer(), jax.random.key(0)), jax.random.key(1)

    def loss(actor):
        return loss_of_actor(CHUNKED, dataclasses.replace(state, actor=actor), jnp.ones(()), batch, key)[0]

    gradient = jax.jit(jax.grad(loss))(state.actor)
    assert np.all(gradient.head.bias != 0.0)


def test_a_chunk_longer_than_an_episode_is_refused():
    Setup.build(small_config(crl={"action_chunk": 20}))
    with pytest.raises(ConfigurationError) as error:
        Setup.build(small_config(crl={"action_chunk": 21}))
    assert str(error.value) == (
        "crl.action_chunk=21 is longer than an episode of env 'point_u_maze'; it must be at most episode_length=20"
    )


# ---- Goals of the actor ------------------------------------------------------------------------------------


def test_resampled_goals_are_those_of_the_batch_permuted():
    agent, state, batch = agent_with(actor_goals="resampled"), first_state(), random_batch()
    psi = state.critic.encode_goal(batch.desired_goal)
    dealt, dealt_psi = (agent.dealt(of_goals, jax.random.key(0)) for of_goals in (batch.desired_goal, psi))
    order = [np.flatnonzero((np.asarray(batch.desired_goal) == goal).all(axis=1)).item() for goal in np.asarray(dealt)]
    assert sorted(order) == list(range(8))
    assert order != list(range(8))
    np.testing.assert_array_equal(dealt_psi, psi[np.array(order)])
    assert np.any(agent.dealt(batch.desired_goal, jax.random.key(1)) != dealt)
    assert AGENT.dealt(batch.desired_goal, jax.random.key(0)) is batch.desired_goal


def test_the_actors_loss_is_that_of_the_goals_dealt_out():
    agent, state, batch, key = agent_with(actor_goals="resampled"), first_state(), random_batch(), jax.random.key(0)

    @jax.jit
    def both(state):
        dealt = dataclasses.replace(batch, desired_goal=agent.dealt(batch.desired_goal, key))
        resampled, _ = loss_of_actor(agent, state, jnp.ones(()), batch, key)
        hindsight, _ = loss_of_actor(AGENT, state, jnp.ones(()), dealt, key)
        return resampled, hindsight

    np.testing.assert_allclose(*both(state), rtol=1e-5)


# ---- Looking inside ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"goal_encoder_depth": 6}, {"action_chunk": 3, "actor_goals": "resampled"}, {"trajectory_repeats": 4}],
    ids=lambda options: next(iter(options)),
)
def test_diagnostics_describe_every_block_whatever_the_options(options):
    agent = agent_with(**options)
    found = jax.jit(agent.diagnose)(first_state(agent), small_buffer(), jax.random.key(0))
    for name in ("actor", "phi", "psi"):
        blocks = options.get("goal_encoder_depth", 2) // 2 if name == "psi" else 1
        for what in ("stream_norm", "residual_norm", "gradient_norm"):
            assert found[f"{name}/{what}"].shape == (blocks,)
            assert np.all(found[f"{name}/{what}"] > 0.0)


def test_the_actor_is_looked_at_with_the_goals_of_its_loss():
    agent = agent_with(actor_goals="resampled")

    @jax.jit
    def look(state, key):
        sample_key, learn_key = jax.random.split(key)
        batch = agent.draw(small_buffer(), sample_key)
        goals = agent.dealt(batch.desired_goal, learn_key)
        inputs = {name: probe.inputs for name, probe in agent.probes(state, small_buffer(), key).items()}
        return inputs, batch, goals

    inputs, batch, goals = look(first_state(), jax.random.key(4))
    np.testing.assert_array_equal(inputs["actor"], np.concatenate([batch.observation, goals], axis=-1))
    np.testing.assert_array_equal(inputs["psi"], batch.desired_goal)
    assert np.any(goals != batch.desired_goal)
