"""The loss of a student, the heads and chunks that it takes over from its teacher, and teachers that are refused."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_data import ACTION, GOAL, OBSERVATION, normal, random_buffer, random_trajectory

from kilolayer.agents import (
    CRLConfig,
    NetworkSettings,
    Problem,
    Teacher,
    agent_names,
    agent_spec,
    make_agent,
)
from kilolayer.agents.distill import DETERMINISTIC_STD, SATURATED, DistillConfig
from kilolayer.data import sample_transitions
from kilolayer.errors import ConfigurationError
from kilolayer.nn import ResidualArchitecture
from kilolayer.objectives import tanh_gaussian

ARCHITECTURE = ResidualArchitecture(block_size=2)
NETWORKS = NetworkSettings(batch_size=16, depth=2, width=8, architecture=ARCHITECTURE)


def problem(discrete=False):
    return Problem("random", OBSERVATION, GOAL, ACTION, episode_length=20, unroll_length=10, discrete_actions=discrete)


def teacher_of(agent="crl", depth=4, **settings):
    return Teacher("nowhere", None, agent, settings, "residual_mlp", ARCHITECTURE, depth, 8)


def student_of(teacher, discrete=False, **config):
    settings = DistillConfig(teacher=teacher, actor_learning_rate=0.01, **config)
    return make_agent("distill", problem(discrete), settings, NETWORKS)


@functools.cache
def taught(agent="crl", weighting="none", kept_blocks=None, **settings):
    """Return a student, its state, and what acts of its teacher, whose parameters all count."""
    student = student_of(teacher_of(agent, **settings), weighting=weighting, kept_blocks=kept_blocks)
    state = student.teacher.acting(student.teacher.init(jax.random.key(5)))[1]
    rng = np.random.default_rng(0)
    acting = jax.tree.map(lambda leaf: leaf + jnp.asarray(0.1 * rng.standard_normal(leaf.shape), leaf.dtype), state)
    return student, student.taught_by(jax.jit(student.init)(jax.random.key(1)), acting), acting


@functools.cache
def buffer():
    return random_buffer(random_trajectory())


def descend(student, state, steps):
    data = buffer()  # outside of the traced function

    def step(state, key):
        return student.update(state, data, key)

    return jax.jit(lambda state: jax.lax.scan(step, state, jax.random.split(jax.random.key(2), steps)))(state)


def test_the_divergence_is_that_of_two_tanh_gaussians():
    """Against the mean of log p - log q over draws of p, with the tanh's change of variables in both."""
    means, log_stds = normal(2, 3), 0.3 * normal(2, 3, seed=1)
    expected = tanh_gaussian.divergence(means[0], log_stds[0], means[1], log_stds[1])
    means, log_stds = (jnp.broadcast_to(each[:, None], (2, 200_000, 3)) for each in (means, log_stds))
    action, log_density = tanh_gaussian.sample(means[0], log_stds[0], jax.random.key(0))
    other = tanh_gaussian.log_density(means[1], log_stds[1], action)
    np.testing.assert_allclose(jnp.mean(log_density - other), expected, rtol=0.02)
    assert float(tanh_gaussian.divergence(means[0], log_stds[0], means[0], log_stds[0])[0]) == 0.0


def test_a_student_comes_to_act_as_its_teacher_and_the_teacher_stays():
    student, state, acting = taught()
    after, metrics = descend(student, state, 300)
    assert metrics["action_error"][-1] < 0.5 * metrics["action_error"][0]
    assert metrics["divergence"][-1] < 0.1 * metrics["divergence"][0]
    for leaf, before in zip(jax.tree.leaves(after.teacher), jax.tree.leaves(acting.actor), strict=True):
        np.testing.assert_array_equal(leaf, before)


def test_labels_are_the_teachers_gaussians_in_their_bounds():
    student, state, acting = taught()
    observation, goal = 9.0 * normal(5, OBSERVATION), 9.0 * normal(5, GOAL, seed=1)
    mean, log_std = student.labels(state, observation, goal)
    own, raw = jnp.split(acting.actor(jnp.concatenate([observation, goal], axis=-1)), 2, axis=-1)
    np.testing.assert_allclose(mean, jnp.clip(own, -SATURATED, SATURATED), rtol=1e-5)
    np.testing.assert_allclose(log_std, tanh_gaussian.squash_log_std(raw), rtol=1e-5)


def test_weights_by_the_critic_favour_states_where_the_student_loses():
    student, state, _ = taught(weighting="critic")
    batch = sample_transitions(buffer(), (16,), jax.random.key(3))
    mean, _ = student.labels(state, batch.observation, batch.desired_goal)
    own = normal(*mean.shape, seed=4)
    weights = student.weights(state, batch, own, mean)
    values = [
        student.teacher.action_value(state.teacher, batch.observation, jnp.tanh(each), batch.desired_goal)
        for each in (mean, own)
    ]
    np.testing.assert_array_equal(np.argsort(weights), np.argsort(values[0] - values[1]))
    np.testing.assert_allclose(jnp.mean(weights), 1.0, rtol=1e-5)
    plain, plain_state, _ = taught()
    assert np.ptp(np.asarray(plain.weights(plain_state, batch, own, mean))) == 0.0
    first, second = (descend(each, one, 1)[0].actor for each, one in ((student, state), (plain, plain_state)))
    assert np.any(np.asarray(first.head.weight) != np.asarray(second.head.weight))


@pytest.mark.parametrize(("execute", "executed"), [("chunk", 3), ("first", 1)])
def test_a_student_takes_over_the_chunk_of_its_teacher(execute, executed):
    student, state, _ = taught(action_chunk=3, execute=execute)
    assert (student.executed_actions, student.head_size) == (executed, 2 * 3 * ACTION)
    action = student.act(state, normal(5, OBSERVATION), normal(5, GOAL), jax.random.key(0))
    assert action.shape == (5, executed * ACTION)
    assert student.labels(state, normal(5, OBSERVATION), normal(5, GOAL))[0].shape == (5, 3 * ACTION)


def test_a_deterministic_teacher_has_a_fixed_standard_deviation():
    student, state, _ = taught("td3")
    assert student.head_size == ACTION
    _, log_std = student.labels(state, normal(5, OBSERVATION), normal(5, GOAL))
    np.testing.assert_allclose(log_std, math.log(DETERMINISTIC_STD), rtol=1e-6)
    _, metrics = descend(student, state, 200)
    assert metrics["action_error"][-1] < 0.5 * metrics["action_error"][0]


def test_a_student_that_keeps_all_blocks_begins_as_its_teacher():
    networks = NetworkSettings(batch_size=16, depth=4, width=8, architecture=ARCHITECTURE)
    whole = make_agent("distill", problem(), DistillConfig(teacher=teacher_of(), kept_blocks=(0, 1)), networks)
    _, _, acting = taught()
    state = whole.taught_by(jax.jit(whole.init)(jax.random.key(1)), acting)
    pair = normal(5, OBSERVATION), normal(5, GOAL)
    expected = whole.teacher.act(acting, *pair, jax.random.key(0))
    np.testing.assert_array_equal(whole.act(state, *pair, jax.random.key(0)), expected)
    _, pruned, _ = taught(kept_blocks=(1,))
    np.testing.assert_array_equal(pruned.actor.blocks.dense.weight, acting.actor.blocks.dense.weight[1:])
    with pytest.raises(ConfigurationError, match="kept_blocks do not fit the student's networks"):
        taught(kept_blocks=(0, 1))
    with pytest.raises(ConfigurationError, match="must be rising numbers from 0 to 1"):
        taught(kept_blocks=(2,))


@pytest.mark.parametrize(
    ("teacher", "config", "words"),
    [
        (None, {}, "distill.teacher is not set; begin with `kilolayer distill RUN`"),
        (teacher_of("crl_discrete"), {}, "is for discrete actions"),
        (teacher_of("gcbc"), {"weighting": "critic"}, "which agent='gcbc' does not have"),
    ],
)
def test_what_cannot_teach_is_refused_in_one_line(teacher, config, words):
    with pytest.raises(ConfigurationError, match=words):
        student_of(teacher, **config)


def test_a_teacher_of_discrete_actions_has_no_actor_to_distil():
    with pytest.raises(ConfigurationError, match="is for continuous actions"):
        student_of(teacher_of("crl_discrete"), discrete=True)


def test_a_teacher_is_the_same_from_plain_data():
    teacher = teacher_of("crl", action_chunk=2)
    assert teacher.agent_settings == CRLConfig(action_chunk=2)
    with pytest.raises(ConfigurationError, match=r"teacher\.agent_settings"):
        teacher_of("crl", depht=2)


@pytest.mark.parametrize("agent", [name for name in agent_names() if not agent_spec(name).discrete])
def test_every_agent_with_continuous_actions_can_teach(agent):
    student = student_of(teacher_of(agent))
    shape = jax.eval_shape(student.init, jax.random.key(0))
    assert shape.actor.num_blocks == 1
    assert student.head_size in (ACTION, 2 * ACTION)


def test_a_student_is_in_no_list_of_agents():
    assert "distill" not in agent_names()
    assert agent_spec("distill").needs_teacher
