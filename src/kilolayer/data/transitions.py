"""Transitions for temporal-difference learning, with goals as commanded or relabelled in hindsight (HER)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.data.hindsight import sample_times
from kilolayer.data.ring_buffer import ReplayBuffer
from kilolayer.shards import drawn_by_shards


class Transitions(eqx.Module):
    """Steps from one state to the next, each with a goal to reach; rewards are the agent's to compute."""

    observation: Float[Array, "*batch observation"]
    action: Float[Array, "*batch action"]
    desired_goal: Float[Array, "*batch goal"]
    next_observation: Float[Array, "*batch observation"]
    next_achieved_goal: Float[Array, "*batch goal"]
    next_desired_goal: Float[Array, "*batch goal"]
    """The desired goal, unless the task's goals move."""
    terminated: Bool[Array, "*batch"]
    """The task failed: nothing follows, and what is said of the next state means nothing."""
    known: Bool[Array, "*batch"]
    """What follows is known. It is not for the step that an episode was truncated with, nor for the latest of all."""


@drawn_by_shards
def sample_transitions(
    buffer: ReplayBuffer, batch_shape: tuple[int, ...], key: PRNGKeyArray, *, relabeled: float = 0.0
) -> Transitions:
    """Draw transitions, uniformly over everything the buffer holds.

    A share of the goals is relabelled as in hindsight experience replay with the `future` strategy (Andrychowicz et
    al., 2017): the new goal is one that the same episode achieves after this step, each later step as likely as any
    other. The next state is among them.

    Args:
        buffer: holds at least one step.
        batch_shape: leading shape of the batch, such as (256,).
        key: randomness.
        relabeled: share of the transitions with a known next state whose goal is relabelled, from 0 to 1.
    """
    time_key, relabel_key = jax.random.split(key)
    environment, time, goal_time = sample_times(buffer, batch_shape, 1.0, time_key)
    has_next = goal_time > time
    row, goal_row = time % buffer.capacity, goal_time % buffer.capacity
    next_row = jnp.where(has_next, time + 1, time) % buffer.capacity
    terminated = buffer.terminated[row, environment]
    relabel = has_next & (jax.random.uniform(relabel_key, batch_shape) < relabeled)
    achieved_later = buffer.achieved_goal[goal_row, environment]

    def goal(commanded: Array) -> Array:
        return jnp.where(relabel[..., None], achieved_later, commanded)

    return Transitions(
        observation=buffer.observation[row, environment],
        action=buffer.action[row, environment],
        desired_goal=goal(buffer.desired_goal[row, environment]),
        next_observation=buffer.observation[next_row, environment],
        next_achieved_goal=buffer.achieved_goal[next_row, environment],
        next_desired_goal=goal(buffer.desired_goal[next_row, environment]),
        terminated=terminated,
        known=has_next | terminated,
    )
