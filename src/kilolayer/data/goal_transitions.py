"""Transitions with goals of three kinds, for values that are learnt by temporal differences without a task's success.

Source: the samplers of OGBench (Park et al., 2024, appendix C). A goal is what a state achieves; it counts as reached
where it was taken from the transition's own state.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.data.hindsight import episode_ends, sample_times, truncated_geometric
from kilolayer.data.ring_buffer import ReplayBuffer
from kilolayer.shards import drawn_by_shards


@dataclasses.dataclass(frozen=True)
class GoalShares:
    """Which goals are drawn. What the shares leave is the share of goals that the same episode reaches later."""

    discount: float
    """A goal k steps ahead is drawn with weight discount^k."""
    own: float = 0.0
    """Share of the rows whose goal their own state achieves."""
    random: float = 0.0
    """Share of the rows whose goal is of any row."""


class GoalTransitions(eqx.Module):
    """Steps from one state to the next, each with a goal."""

    observation: Float[Array, "batch observation"]
    action: Float[Array, "batch action"]
    goal: Float[Array, "batch goal"]
    next_observation: Float[Array, "batch observation"]
    reached: Bool[Array, " batch"]
    """The goal is what the state before the step achieves."""
    terminated: Bool[Array, " batch"]
    """The task failed: nothing follows."""
    known: Bool[Array, " batch"]
    """What follows is known."""
    later_goal: Float[Array, "batch goal"]
    """A goal that the same episode reaches later, each later step as likely as any other: for the actor."""


@drawn_by_shards
def sample_goal_transitions(
    buffer: ReplayBuffer, batch_size: int, shares: GoalShares, key: PRNGKeyArray
) -> GoalTransitions:
    """Draw transitions with goals, uniformly over everything the buffer holds.

    Args:
        buffer: holds at least one step.
        batch_size: rows.
        shares: which goals.
        key: randomness.
    """
    time_key, kind_key, other_key, later_key = jax.random.split(key, 4)
    environment, time, goal_time = sample_times(buffer, (batch_size,), shares.discount, time_key)
    other_environment, other_time, _ = sample_times(buffer, (batch_size,), 1.0, other_key)
    kind = jax.random.uniform(kind_key, (batch_size,))
    is_random, is_own = kind < shares.random, kind >= 1.0 - shares.own
    goal_environment = jnp.where(is_random, other_environment, environment)
    chosen_time = jnp.where(is_random, other_time, jnp.where(is_own, time, goal_time))

    has_next = goal_time > time
    row = time % buffer.capacity
    next_row = jnp.where(has_next, time + 1, time) % buffer.capacity
    later = time + truncated_geometric(episode_ends(buffer, environment, time) - time, 1.0, later_key)
    terminated = buffer.terminated[row, environment]
    return GoalTransitions(
        observation=buffer.observation[row, environment],
        action=buffer.action[row, environment],
        goal=buffer.achieved_goal[chosen_time % buffer.capacity, goal_environment],
        next_observation=buffer.observation[next_row, environment],
        reached=(goal_environment == environment) & (chosen_time == time),
        terminated=terminated,
        known=has_next | terminated,
        later_goal=buffer.achieved_goal[later % buffer.capacity, environment],
    )
