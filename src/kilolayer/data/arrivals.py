"""When a goal is first reached after a step: labels for critics that know time, from independent rows of the buffer.

Source: the labels of ChronoSRL (2026) and Survival RL (2026), for rows drawn one by one in place of whole windows.
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from kilolayer.data.hindsight import chunk_of_actions, episode_ends, last_actions, sample_times
from kilolayer.data.ring_buffer import ReplayBuffer
from kilolayer.shards import Shards, drawn_by_shards

RADII = (1.0, 2.0, 4.0)
"""How near a goal is: the share of so many spheres around it that hold the state, of the task's radius, of a half of it
and of a quarter."""


@dataclasses.dataclass(frozen=True)
class Draw:
    """What is drawn."""

    success: Callable[[Array, Array], Array]
    """Returns whether an achieved goal is at a goal, each `(goal,)`."""
    horizon: int
    """Steps that are looked ahead."""
    discount: float
    """A goal k steps ahead is drawn with weight discount^k."""
    own_goals: float
    """Share of the rows whose goal is what their own state achieves."""
    random_goals: float
    """Share of the rows whose goal is of another row, anywhere in the buffer."""
    action_chunk: int = 1
    """Actions of a row."""
    sequence: int = 1
    """Achieved goals that make a goal, one for each of so many steps in a row: it is reached where all are."""
    nearness: bool = True
    """Label how near the goal is at every step too."""


class Arrivals(eqx.Module):
    """Rows of a step, a goal, and when the step's episode first reached it."""

    observation: Float[Array, "batch observation"]
    action: Float[Array, "batch chunk"]
    """The action of the step and those that follow it."""
    goal: Float[Array, "batch sequence goal"]
    arrived: Bool[Array, " batch"]
    """The goal was reached, in what was seen of the episode."""
    time: Int[Array, " batch"]
    """Steps until it was, 0 if it was reached already; where it was not, 0."""
    observed: Int[Array, " batch"]
    """Steps that were seen, at most the horizon."""
    failed: Bool[Array, " batch"]
    """The task failed within the horizon: nothing follows what was seen."""
    nearness: Float[Array, "batch horizon"] | None
    """How near the goal was at each step from the next on, from 0 to 1; see `RADII`. It means nothing where unseen."""
    valid: Bool[Array, " batch"]
    """All actions of the row are of its episode."""


class ArrivalBuffer(eqx.Module):
    """A replay buffer, and its achieved goals in the order of time, one row after the other for each environment."""

    buffer: ReplayBuffer
    achieved: Float[Array, "goal num_envs padded"]
    """From the oldest step on; zeros behind the newest, so that what follows a step is one slice. Time is the last
    axis, so that what is computed of each step runs over numbers side by side."""

    @property
    def shards(self) -> Shards:
        """Equal parts of the environments."""
        return self.buffer.shards


def prepare_arrivals(buffer: ReplayBuffer, draw: Draw) -> ArrivalBuffer:
    """Return the buffer in the form that `sample_arrivals` reads fast."""
    oldest = (buffer.num_steps - buffer.size) % buffer.capacity
    achieved = jnp.roll(buffer.achieved_goal, -oldest, axis=0).transpose(2, 1, 0)
    return ArrivalBuffer(buffer, jnp.pad(achieved, ((0, 0), (0, 0), (0, draw.horizon + draw.sequence))))


@drawn_by_shards
def sample_arrivals(data: ArrivalBuffer, batch_size: int, draw: Draw, key: PRNGKeyArray) -> Arrivals:
    """Draw steps with goals, uniformly over everything the buffer holds, and label them.

    A goal is of a later step of the same episode, of the step itself, or of another row. A goal of the future is the
    step's own where the buffer holds no later step. A row looks ahead to the end of its episode, or of what the buffer
    holds, at most `horizon` steps: the cost of a batch is the rows times the horizon, whatever the buffer's size.

    Args:
        data: as `prepare_arrivals` returns it, of a buffer with at least one step.
        batch_size: rows.
        draw: what is drawn.
        key: randomness.
    """
    buffer = data.buffer
    time_key, kind_key, other_key = jax.random.split(key, 3)
    environment, time, goal_time = sample_times(buffer, (batch_size,), draw.discount, time_key)
    other_environment, other_time, _ = sample_times(buffer, (batch_size,), 1.0, other_key)
    kind = jax.random.uniform(kind_key, (batch_size,))
    is_random, is_own = kind < draw.random_goals, kind >= 1.0 - draw.own_goals
    goal_environment = jnp.where(is_random, other_environment, environment)
    goal_time = jnp.where(is_random, other_time, jnp.where(is_own, time, goal_time))

    last = episode_ends(buffer, environment, time)
    ahead = last - time
    goal = _following(data, goal_environment, goal_time, draw.sequence)
    # A sequence ends with its episode: what would follow it repeats its last step.
    left = episode_ends(buffer, goal_environment, goal_time) - goal_time
    held = jnp.minimum(jnp.arange(draw.sequence), left[:, None])
    goal = jnp.take_along_axis(goal, held[None], axis=2)

    states = _following(data, environment, time, draw.horizon + draw.sequence)
    at_goal = jnp.ones((batch_size, draw.horizon + 1), bool)
    for step in range(draw.sequence):
        at_goal &= _is_at(draw.success, states[..., step : step + draw.horizon + 1], goal[..., step, None])
    complete = ahead - (draw.sequence - 1)  # the last step whose sequence was seen whole; none if negative
    at_goal &= jnp.arange(draw.horizon + 1) <= complete[:, None]
    row = time % buffer.capacity
    return Arrivals(
        observation=buffer.observation[row, environment],
        action=chunk_of_actions(buffer, environment, time, draw.action_chunk),
        goal=goal.transpose(1, 2, 0),
        arrived=jnp.any(at_goal, axis=-1),
        time=jnp.argmax(at_goal, axis=-1),
        observed=jnp.clip(complete, 0, draw.horizon),
        failed=buffer.terminated[last % buffer.capacity, environment] & (ahead < draw.horizon),
        nearness=_nearness(draw, states[..., 1 : draw.horizon + 1], goal[..., :1]) if draw.nearness else None,
        valid=time + draw.action_chunk - 1 <= last_actions(buffer, environment, time),
    )


def _following(
    data: ArrivalBuffer, environment: Int[Array, " batch"], time: Int[Array, " batch"], count: int
) -> Float[Array, "goal batch count"]:
    """Return what is achieved at each time and at the steps that follow it, of whatever episode."""
    start = time - (data.buffer.num_steps - data.buffer.size)
    zero, size = jnp.zeros((), start.dtype), data.achieved.shape[0]

    def rows(environment: Int[Array, ""], start: Int[Array, ""]) -> Float[Array, "goal count"]:
        return jax.lax.dynamic_slice(data.achieved, (zero, environment, start), (size, 1, count))[:, 0]

    return jax.vmap(rows, out_axes=1)(environment.astype(start.dtype), start)


def _is_at(
    success: Callable[[Array, Array], Array],
    achieved: Float[Array, "goal batch count"],
    goal: Float[Array, "goal batch 1"],
) -> Bool[Array, "batch count"]:
    """Return whether each achieved goal is at the goal of its row."""
    over_count = jax.vmap(success, in_axes=(-1, None))
    return jax.vmap(over_count, in_axes=(1, 1))(achieved, goal[..., 0])


def _nearness(
    draw: Draw, achieved: Float[Array, "goal batch horizon"], goal: Float[Array, "goal batch 1"]
) -> Float[Array, "batch horizon"]:
    """Return the share of `RADII` within which achieved goals are: a sphere half as large holds what is twice as far
    within the whole.
    """
    within = [_is_at(draw.success, goal + scale * (achieved - goal), goal).astype(goal.dtype) for scale in RADII]
    return sum(within[1:], within[0]) / len(RADII)
