"""Small agents of contrastive RL, with states, batches and a buffer to look at them with."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.agents import CRL, CRLConfig, Judge
from kilolayer.agents.core.gaussian_policy import policy
from kilolayer.data import Batch, Trajectory, empty_buffer, insert
from kilolayer.nn import ResidualArchitecture

OBSERVATION, GOAL, ACTION, BATCH = 4, 2, 3, 8


def agent_with(batch_size=BATCH, depth=2, width=8, shards=1, **config):
    return CRL(
        observation_size=OBSERVATION,
        goal_size=GOAL,
        action_size=ACTION,
        batch_size=batch_size,
        depth=depth,
        width=width,
        shards=shards,
        architecture=ResidualArchitecture(block_size=2),
        config=CRLConfig(**config),
    )


AGENT = agent_with()


@functools.cache
def first_state(agent=AGENT):
    """Return a state like a new one, but with random biases, scales and offsets too.

    Each parameter depends on its name and shape alone.
    """

    def draw(path, leaf):
        name = jax.tree_util.keystr(path)
        if not name.startswith((".actor.", ".critic.", ".second_critic.", ".survival.")):
            return jnp.zeros(leaf.shape, leaf.dtype)
        rng = np.random.default_rng(list(name.encode()))
        if name.endswith(".weight"):
            return jnp.asarray(rng.uniform(-1.0, 1.0, leaf.shape) / np.sqrt(leaf.shape[-2]), leaf.dtype)
        return jnp.asarray(name.endswith(".scale") + 0.1 * rng.standard_normal(leaf.shape), leaf.dtype)

    with jax.enable_x64(False):
        shapes = jax.eval_shape(agent.init, jax.random.key(0))
        return jax.tree_util.tree_map_with_path(draw, shapes)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def random_batch(size=BATCH, seed=0):
    return Batch(
        observation=normal(size, OBSERVATION, seed=seed),
        action=jnp.tanh(normal(size, ACTION, seed=seed + 1)),
        desired_goal=normal(size, GOAL, seed=seed + 2),
    )


@functools.cache
def small_buffer():
    length, num_envs = 24, 3
    trajectory = Trajectory(
        observation=normal(length, num_envs, OBSERVATION),
        achieved_goal=normal(length, num_envs, GOAL, seed=1),
        desired_goal=normal(length, num_envs, GOAL, seed=3),
        action=jnp.tanh(normal(length, num_envs, ACTION, seed=2)),
        terminated=jnp.zeros((length, num_envs), bool),
        done=jnp.zeros((length, num_envs), bool).at[11].set(True),
        diverged=jnp.zeros((length, num_envs), bool),
    )
    return insert(empty_buffer(length, num_envs, OBSERVATION, GOAL, ACTION), trajectory)


def loss_of_actor(agent, state, alpha, batch, key):
    """Return the actor's loss on a batch, and metrics, as `CRL.losses` has them."""
    mean, log_std = policy(state.actor, batch.observation, agent.dealt(batch.desired_goal, key))
    psis = [agent.dealt(critic.encode_goal(batch.desired_goal), key) for critic in state.critics]
    return agent.actor_loss(mean, log_std, Judge(state.critics, psis, state.survival), alpha, batch, key)
