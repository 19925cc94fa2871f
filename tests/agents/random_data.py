"""Buffers and batches of random numbers, for agents of any kind."""

import jax.numpy as jnp
import numpy as np

from kilolayer.data import ReplayBuffer, Trajectory, empty_buffer, insert

OBSERVATION, GOAL, ACTION = 4, 2, 3


def normal(*shape: int, seed: int = 0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def random_trajectory(length: int = 24, num_envs: int = 3, *, ends: float = 0.15, fails: float = 0.5) -> Trajectory:
    """Return steps that end an episode with probability `ends`, by failure with probability `fails` of these."""
    rng = np.random.default_rng(7)
    done = rng.random((length, num_envs)) < ends
    return Trajectory(
        observation=normal(length, num_envs, OBSERVATION),
        achieved_goal=normal(length, num_envs, GOAL, seed=1),
        desired_goal=normal(length, num_envs, GOAL, seed=3),
        action=jnp.tanh(normal(length, num_envs, ACTION, seed=2)),
        terminated=jnp.asarray(done & (rng.random(done.shape) < fails)),
        done=jnp.asarray(done),
        diverged=jnp.zeros(done.shape, bool),
    )


def random_buffer(trajectory: Trajectory, *, capacity: int | None = None) -> ReplayBuffer:
    """Return a buffer into which the trajectory was inserted in two halves; by default it holds all of it."""
    length, num_envs = trajectory.done.shape
    buffer = empty_buffer(capacity or length, num_envs, OBSERVATION, GOAL, ACTION)
    for part in (slice(0, length // 2), slice(length // 2, length)):
        buffer = insert(buffer, Trajectory(**{name: value[part] for name, value in vars(trajectory).items()}))
    return buffer
