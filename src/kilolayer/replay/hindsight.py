"""Hindsight relabelling: a step, and a goal that was achieved later in the same episode (method 1.4)."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from kilolayer.replay.buffer import ReplayBuffer


class Batch(eqx.Module):
    """State-action pairs, each with a goal that its own future reached."""

    observation: Float[Array, "*batch observation"]
    action: Float[Array, "*batch action"]
    desired_goal: Float[Array, "*batch goal"]


def truncated_geometric(horizon: Int[Array, "*batch"], discount: float, key: PRNGKeyArray) -> Int[Array, "*batch"]:
    """Draw how many steps ahead the goal lies: k in 1 ... horizon with probability proportional to discount^k.

    One uniform number is put through the inverse of the distribution function (1 - discount^k) / (1 -
    discount^horizon), so a draw costs the same for every horizon. Where the horizon is 0, k is 0.
    """
    uniform = jax.random.uniform(key, horizon.shape)
    if discount < 1.0:
        log_discount = math.log(discount)
        total = -jnp.expm1(horizon * log_discount)
        ahead = jnp.log1p(-uniform * total) / log_discount
    else:
        ahead = uniform * horizon
    return jnp.clip(jnp.floor(ahead).astype(jnp.int32) + 1, jnp.minimum(horizon, 1), horizon)


def sample_times(
    buffer: ReplayBuffer, batch_shape: tuple[int, ...], discount: float, key: PRNGKeyArray
) -> tuple[Int[Array, "*batch"], Int[Array, "*batch"], Int[Array, "*batch"]]:
    """Draw an environment, a time and a later time of the same episode, uniformly over the whole buffer.

    Returns:
        environment, time and goal time, each of `batch_shape`. The goal time is the time itself where the buffer
        holds no later step of the episode.
    """
    environment_key, age_key, goal_key = jax.random.split(key, 3)
    environment = jax.random.randint(environment_key, batch_shape, 0, buffer.num_envs)
    time = buffer.num_steps - 1 - jax.random.randint(age_key, batch_shape, 0, buffer.size)
    episode = buffer.episode[time % buffer.capacity, environment]
    last_time = buffer.last_time[episode % buffer.capacity, environment]
    goal_time = time + truncated_geometric(last_time - time, discount, goal_key)
    return environment, time, goal_time


def sample_hindsight(buffer: ReplayBuffer, batch_shape: tuple[int, ...], discount: float, key: PRNGKeyArray) -> Batch:
    """Draw state-action pairs with relabelled goals from everything the buffer holds.

    Args:
        buffer: holds at least one step.
        batch_shape: leading shape of the batch, such as (256,).
        discount: weight of a goal k steps ahead is discount^k.
        key: randomness.
    """
    environment, time, goal_time = sample_times(buffer, batch_shape, discount, key)
    row = time % buffer.capacity
    return Batch(
        observation=buffer.observation[row, environment],
        action=buffer.action[row, environment],
        desired_goal=buffer.achieved_goal[goal_time % buffer.capacity, environment],
    )
