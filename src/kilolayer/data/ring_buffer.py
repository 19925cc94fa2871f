"""A ring buffer of trajectories, on the device, one ring for every environment."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kilolayer.shards import WHOLE, Shards


class Trajectory(eqx.Module):
    """What `num_envs` environments did in `length` consecutive steps (or, without that axis, in one)."""

    observation: Float[Array, "*length num_envs observation"]
    """What the agent saw before it acted."""
    achieved_goal: Float[Array, "*length num_envs goal"]
    """The goal that this observation amounts to."""
    desired_goal: Float[Array, "*length num_envs goal"]
    """The goal that the agent was commanded to reach."""
    action: Float[Array, "*length num_envs action"]
    """What the agent did, in [-1, 1]."""
    terminated: Bool[Array, "*length num_envs"]
    """The task failed with this step."""
    done: Bool[Array, "*length num_envs"]
    """The episode ended with this step: terminated, truncated or diverged."""
    diverged: Bool[Array, "*length num_envs"]
    """The robot diverged with this step: what follows is unknown, and no sampler draws the step. In data sets also the
    last state of an episode, of which no action is known: others may have it as goal and as next state."""


class ReplayBuffer(eqx.Module):
    """The last `capacity` steps of every environment, and where each episode among them ends.

    A step is known by its time, counted from the environment's first step; it lies in row time % capacity. Episodes
    are numbered within their environment. `last_time` holds, for the episode numbered n, the latest time seen of it,
    in row n % capacity: no more than `capacity` episodes can be alive in the ring, so no two share a row.
    """

    observation: Float[Array, "capacity num_envs observation"]
    achieved_goal: Float[Array, "capacity num_envs goal"]
    desired_goal: Float[Array, "capacity num_envs goal"]
    action: Float[Array, "capacity num_envs action"]
    terminated: Bool[Array, "capacity num_envs"]
    diverged: Bool[Array, "capacity num_envs"]
    episode: Int[Array, "capacity num_envs"]
    last_time: Int[Array, "capacity num_envs"]
    open_episode: Int[Array, " num_envs"]
    """The number of the episode that the next step belongs to."""
    num_steps: Int[Array, ""]
    """Steps of each environment inserted so far."""
    shards: Shards = eqx.field(static=True, default=WHOLE)
    """Equal parts of the environments; batches take as many rows from each."""

    @property
    def capacity(self) -> int:
        """Steps that the ring of one environment holds."""
        return self.episode.shape[0]

    @property
    def num_envs(self) -> int:
        """Environments, one ring each."""
        return self.episode.shape[1]

    @property
    def size(self) -> Int[Array, ""]:
        """Steps of each environment that can be drawn now."""
        return jnp.minimum(self.num_steps, self.capacity)


def empty_buffer(
    capacity: int,
    num_envs: int,
    observation_size: int,
    goal_size: int,
    action_size: int,
    shards: Shards = WHOLE,
) -> ReplayBuffer:
    """Return a buffer with room for `capacity` steps of each of `num_envs` environments."""
    return ReplayBuffer(
        observation=jnp.zeros((capacity, num_envs, observation_size)),
        achieved_goal=jnp.zeros((capacity, num_envs, goal_size)),
        desired_goal=jnp.zeros((capacity, num_envs, goal_size)),
        action=jnp.zeros((capacity, num_envs, action_size)),
        terminated=jnp.zeros((capacity, num_envs), bool),
        diverged=jnp.zeros((capacity, num_envs), bool),
        episode=jnp.zeros((capacity, num_envs), jnp.int32),
        last_time=jnp.full((capacity, num_envs), -1, jnp.int32),
        open_episode=jnp.zeros(num_envs, jnp.int32),
        num_steps=jnp.zeros((), jnp.int32),
        shards=shards,
    )


def insert(buffer: ReplayBuffer, trajectory: Trajectory) -> ReplayBuffer:
    """Append `trajectory` to the rings; the oldest steps make room.

    Raises:
        ValueError: if the trajectory is longer than the ring.
    """
    length = trajectory.done.shape[0]
    if length > buffer.capacity:
        raise ValueError(f"a trajectory of {length} steps does not fit a ring of {buffer.capacity}")
    return buffer.shards.on_rings(_inserted, buffer, trajectory)


def _inserted(buffer: ReplayBuffer, trajectory: Trajectory) -> ReplayBuffer:
    length, num_envs = trajectory.done.shape
    capacity = buffer.capacity
    times = buffer.num_steps + jnp.arange(length, dtype=jnp.int32)
    rows = times % capacity
    ended = jnp.cumsum(trajectory.done, axis=0, dtype=jnp.int32)
    episode = buffer.open_episode + ended - trajectory.done
    environment = jnp.arange(num_envs)

    def write(ring: Array, values: Array) -> Array:
        return ring.at[rows].set(values.astype(ring.dtype), indices_are_sorted=False, unique_indices=True)

    return ReplayBuffer(
        observation=write(buffer.observation, trajectory.observation),
        achieved_goal=write(buffer.achieved_goal, trajectory.achieved_goal),
        desired_goal=write(buffer.desired_goal, trajectory.desired_goal),
        action=write(buffer.action, trajectory.action),
        terminated=write(buffer.terminated, trajectory.terminated),
        diverged=write(buffer.diverged, trajectory.diverged),
        episode=write(buffer.episode, episode),
        last_time=buffer.last_time.at[episode % capacity, environment].max(times[:, None]),
        open_episode=buffer.open_episode + ended[-1],
        num_steps=buffer.num_steps + length,
        shards=buffer.shards,
    )


def end_episodes(buffer: ReplayBuffer, where: Bool[Array, " num_envs"]) -> ReplayBuffer:
    """End the open episode of some environments after their last step, as if it had been truncated."""
    return dataclasses.replace(buffer, open_episode=buffer.open_episode + where.astype(jnp.int32))
