"""Windows: the same number of consecutive steps of every environment, as a buffer that all samplers draw from."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from kilolayer.data.ring_buffer import ReplayBuffer
from kilolayer.errors import ConfigurationError


@dataclasses.dataclass(frozen=True)
class ReplaySettings:
    """Settings of what gradient steps draw from the replay buffer."""

    windows: int | None = None
    """Draw the batches of a round from one window of so many steps of each environment, as the published code does.
    None: from the whole buffer."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        if self.windows is not None and self.windows < 1:
            raise ConfigurationError(f"windows={self.windows} must be at least 1")


def draw_windows(buffer: ReplayBuffer, length: int, key: PRNGKeyArray) -> ReplayBuffer:
    """Return a buffer with one window of every environment, each from a random step of those held.

    A batch from it holds more steps of the same episodes than one from the whole buffer, and a goal lies in the window
    of its state. Source: the published code of Wang et al. (2025), which draws windows of 1,000 steps for every round.

    Args:
        buffer: holds at least `length` steps of every environment.
        length: steps of a window.
        key: randomness.

    Raises:
        ValueError: if the ring is shorter than a window.
    """
    if length > buffer.capacity:
        raise ValueError(f"a window of {length} steps does not fit a ring of {buffer.capacity}")
    oldest = buffer.num_steps - buffer.size
    first = jax.random.randint(key, (buffer.num_envs,), oldest, buffer.num_steps - length + 1)
    return buffer.shards.on_rings(functools.partial(_windows, length), buffer, first)


def _windows(length: int, buffer: ReplayBuffer, first: Int[Array, " num_envs"]) -> ReplayBuffer:
    """Return the window of every environment that begins at its time `first`."""
    environment = jnp.arange(buffer.num_envs)
    times = jnp.arange(length)
    rows = (first + times[:, None]) % buffer.capacity
    episode = buffer.episode[rows, environment]
    episode = episode - episode[0]
    return ReplayBuffer(
        observation=buffer.observation[rows, environment],
        achieved_goal=buffer.achieved_goal[rows, environment],
        desired_goal=buffer.desired_goal[rows, environment],
        action=buffer.action[rows, environment],
        terminated=buffer.terminated[rows, environment],
        diverged=buffer.diverged[rows, environment],
        episode=episode,
        last_time=jnp.full_like(episode, -1).at[episode, environment].max(times[:, None]),
        open_episode=episode[-1],
        num_steps=jnp.asarray(length, jnp.int32),
        shards=buffer.shards,
    )
