"""Hindsight relabelling: a step, and a goal that was achieved later in the same episode.

Source: hindsight relabelling with a geometric distribution over future steps (Eysenbach et al., 2022, section 4).
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from kilolayer.data.ring_buffer import ReplayBuffer
from kilolayer.shards import drawn_by_shards

REDRAWS = 3
"""How often a sampler draws again where it drew a step in which the robot diverged. A run ends when a tenth of its
episodes diverge, so of 10,000 such draws at most one remains, even where every episode has one step."""

FAILURES = 2**32 - 2
"""Folded into the key of a batch for how far ahead failures are looked for."""


class Batch(eqx.Module):
    """State-action pairs, each with a goal that its own future reached."""

    observation: Float[Array, "*batch observation"]
    action: Float[Array, "*batch action"]
    """One action, or several that follow each other."""
    desired_goal: Float[Array, "*batch goal"]
    survived: Bool[Array, "*batch"] | None = None
    """The task did not fail within the steps that were looked ahead; None unless it was asked for."""
    valid: Bool[Array, "*batch"] | None = None
    """All actions of the row are of its episode; None with one action, of which that is always so."""


def truncated_geometric(horizon: Int[Array, "*batch"], discount: float, key: PRNGKeyArray) -> Int[Array, "*batch"]:
    """Draw how many steps ahead the goal lies: k in 1 ... horizon with probability proportional to discount^k.

    A uniform number is mapped through the inverse of the distribution function (1 - discount^k) / (1 -
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


def episode_ends(
    buffer: ReplayBuffer, environment: Int[Array, "*batch"], time: Int[Array, "*batch"]
) -> Int[Array, "*batch"]:
    """Return the latest time that is held of the episode that each time belongs to."""
    episode = buffer.episode[time % buffer.capacity, environment]
    return buffer.last_time[episode % buffer.capacity, environment]


def last_actions(
    buffer: ReplayBuffer, environment: Int[Array, "*batch"], time: Int[Array, "*batch"]
) -> Int[Array, "*batch"]:
    """Return the latest time of each time's episode whose action may be drawn: not that of a step that diverged."""
    last = episode_ends(buffer, environment, time)
    return last - _diverged(buffer, environment, last)


def episode_starts(
    buffer: ReplayBuffer, environment: Int[Array, "*batch"], time: Int[Array, "*batch"]
) -> Int[Array, "*batch"]:
    """Return the earliest time that is held of the episode that each time belongs to."""
    episode = buffer.episode[time % buffer.capacity, environment]
    before = buffer.last_time[(episode - 1) % buffer.capacity, environment]
    oldest = buffer.num_steps - buffer.size
    # Where a later episode has taken the row of the one before, that one has left the ring. The first episode of all
    # has none before it: its row is empty, or a later episode's.
    return jnp.where(before < time, jnp.maximum(before + 1, oldest), oldest)


def sample_times(
    buffer: ReplayBuffer, batch_shape: tuple[int, ...], discount: float, key: PRNGKeyArray, *, repeats: int = 1
) -> tuple[Int[Array, "*batch"], Int[Array, "*batch"], Int[Array, "*batch"]]:
    """Draw an environment, a time and a later time of the same episode, uniformly over the whole buffer.

    Steps in which the robot diverged are left out: they are drawn again, `REDRAWS` times at most, and then the step
    before takes their place, if its episode has one.

    Args:
        buffer: holds at least one step.
        batch_shape: leading shape of the batch, such as (256,).
        discount: weight of a goal k steps ahead is discount^k.
        key: randomness.
        repeats: so many entries side by side on the last axis are of the same episode, each drawn for itself. It
            divides that axis. Every entry alone is as likely to be any step of the buffer as without repeats.

    Returns:
        environment, time and goal time, each of `batch_shape`. The goal time is the time itself where the buffer
        holds no later step of the episode.
    """
    environment_key, age_key, goal_key = jax.random.split(key, 3)
    drawn_shape = batch_shape
    if repeats > 1:
        drawn_shape = (*batch_shape[:-1], batch_shape[-1] // repeats)
        age_key, within_key = jax.random.split(age_key)
    drawn = (1 + REDRAWS, *drawn_shape)
    environment = jax.random.randint(environment_key, drawn, 0, buffer.num_envs)
    time = buffer.num_steps - 1 - jax.random.randint(age_key, drawn, 0, buffer.size)
    first_usable = jnp.argmin(_diverged(buffer, environment, time), axis=0)[None]
    environment, time = (jnp.take_along_axis(draws, first_usable, axis=0)[0] for draws in (environment, time))
    time = jnp.where(_diverged(buffer, environment, time), _step_before(buffer, environment, time), time)
    last_time = episode_ends(buffer, environment, time)
    if repeats > 1:
        first_time = episode_starts(buffer, environment, time)
        last_usable = jnp.maximum(last_time - _diverged(buffer, environment, last_time), first_time)
        environment, first_time, last_usable, last_time = (
            jnp.repeat(one, repeats, axis=-1) for one in (environment, first_time, last_usable, last_time)
        )
        time = jax.random.randint(within_key, batch_shape, first_time, last_usable + 1)
    goal_time = time + truncated_geometric(last_time - time, discount, goal_key)
    return environment, time, goal_time


def _step_before(
    buffer: ReplayBuffer, environment: Int[Array, "*batch"], time: Int[Array, "*batch"]
) -> Int[Array, "*batch"]:
    """Return the time before each, where it is held and of the same episode; elsewhere the time itself."""
    row, before = time % buffer.capacity, (time - 1) % buffer.capacity
    same = buffer.episode[row, environment] == buffer.episode[before, environment]
    return jnp.where(same & (time > buffer.num_steps - buffer.size), time - 1, time)


def _diverged(
    buffer: ReplayBuffer, environment: Int[Array, "*batch"], time: Int[Array, "*batch"]
) -> Bool[Array, "*batch"]:
    return buffer.diverged[time % buffer.capacity, environment]


@drawn_by_shards
def sample_hindsight(
    buffer: ReplayBuffer,
    batch_shape: tuple[int, ...],
    discount: float,
    key: PRNGKeyArray,
    *,
    action_chunk: int = 1,
    repeats: int = 1,
    failure_discount: float | None = None,
) -> Batch:
    """Draw state-action pairs with relabelled goals from everything the buffer holds.

    Args:
        buffer: holds at least one step.
        batch_shape: leading shape of the batch, such as (256,).
        discount: weight of a goal k steps ahead is discount^k.
        key: randomness.
        action_chunk: actions of a pair: that of its step and of those that follow, one behind the other. A pair is not
            valid where some are behind the end of the episode, or not taken yet; those are zeros.
        repeats: pairs of each episode; see `sample_times`.
        failure_discount: also say whether the task failed within k steps, where k is drawn for each pair with weight
            failure_discount^k.
    """
    environment, time, goal_time = sample_times(buffer, batch_shape, discount, key, repeats=repeats)
    row = time % buffer.capacity
    survived = None
    if failure_discount is not None:
        survived = _survived(buffer, environment, time, failure_discount, jax.random.fold_in(key, FAILURES))
    valid = None
    if action_chunk > 1:
        valid = time + action_chunk - 1 <= last_actions(buffer, environment, time)
    return Batch(
        observation=buffer.observation[row, environment],
        action=chunk_of_actions(buffer, environment, time, action_chunk),
        desired_goal=buffer.achieved_goal[goal_time % buffer.capacity, environment],
        survived=survived,
        valid=valid,
    )


def _survived(
    buffer: ReplayBuffer,
    environment: Int[Array, "*batch"],
    time: Int[Array, "*batch"],
    discount: float,
    key: PRNGKeyArray,
) -> Bool[Array, "*batch"]:
    """Return whether the task did not fail within a geometric number of steps. What was not seen counts as survived."""
    last = episode_ends(buffer, environment, time)
    ahead = 1 + jnp.floor(jnp.log1p(-jax.random.uniform(key, time.shape)) / math.log(discount))
    return ~buffer.terminated[last % buffer.capacity, environment] | (last - time >= ahead)


def chunk_of_actions(
    buffer: ReplayBuffer, environment: Int[Array, "*batch"], time: Int[Array, "*batch"], action_chunk: int
) -> Float[Array, "*batch chunk"]:
    """Return the action at each time and those that follow in its episode, with zeros behind the end."""
    if action_chunk == 1:
        return buffer.action[time % buffer.capacity, environment]
    times = time[..., None] + jnp.arange(action_chunk)
    taken = times <= last_actions(buffer, environment, time)[..., None]
    actions = buffer.action[times % buffer.capacity, environment[..., None]]
    return jnp.where(taken[..., None], actions, 0.0).reshape(*time.shape, -1)
