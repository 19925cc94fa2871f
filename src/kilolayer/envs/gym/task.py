"""The task of an environment of Gymnasium: its sizes, and when a goal is reached."""

import dataclasses
import functools
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.envs.gym.sources import spec_of

DEFAULT_EPISODE = 1000
"""Steps of an episode where the environment names none."""


@dataclasses.dataclass(frozen=True)
class About:
    """What one environment tells of all."""

    observation_size: int
    goal_size: int
    low: tuple[float, ...]
    """Least action."""
    high: tuple[float, ...]
    """Greatest action."""
    control_step: float | None
    """Seconds between two actions; None where the environment does not tell."""
    sparse: bool
    """`compute_reward` has one value at the goal and a smaller one elsewhere."""
    tells_success: bool
    """`info` says whether a step ends at the goal."""


@functools.lru_cache(maxsize=64)
def look_at(name: str) -> About:
    """Make an environment, and return what it is like.

    Args:
        name: with its prefix.

    Raises:
        ConfigurationError: in one line, if it cannot be made or does not fit.
    """
    spec_of(name)
    from kilolayer.envs.gym.adapter import open_env

    env = open_env(name, episode_length_of(name))
    try:
        env.look()
        action: Any = env.action_space
        shown: Any = env.observation_space
        return About(
            observation_size=shown["observation"].shape[0],
            goal_size=shown["desired_goal"].shape[0],
            low=tuple(float(bound) for bound in action.low.reshape(-1)),
            high=tuple(float(bound) for bound in action.high.reshape(-1)),
            control_step=_control_step(env),
            sparse=env.sparse,
            tells_success=env.tells_success,
        )
    finally:
        env.close()


def episode_length_of(name: str) -> int:
    """Return the steps after which an episode is truncated.

    Args:
        name: with its prefix.
    """
    return spec_of(name).max_episode_steps or DEFAULT_EPISODE


class GymTask:
    """Goals of an environment that lives on the host. Actions in [-1, 1] are mapped onto the bounds of its own.

    Where `compute_reward` is sparse, success of any pair of goals is asked of it, so that goals can be relabelled.
    """

    engines = ("gym_sync", "gym_async")

    def __init__(self, name: str):
        """Look at an environment.

        Args:
            name: with its prefix.

        Raises:
            ConfigurationError: in one line, if it cannot be made or does not fit.
        """
        self.name, self.about = name, look_at(name)
        self.episode_length = episode_length_of(name)
        self._env: Any = None
        self._lock = threading.Lock()

    @property
    def observation_size(self) -> int:
        """Number of entries of an observation, without the goal."""
        return self.about.observation_size

    @property
    def goal_size(self) -> int:
        """Number of entries of a goal."""
        return self.about.goal_size

    @property
    def action_size(self) -> int:
        """Number of entries of an action, each in [-1, 1]."""
        return len(self.about.low)

    @property
    def control_step(self) -> float | None:
        """Seconds between two actions; None where the environment does not tell."""
        return self.about.control_step

    def reset(self, key: PRNGKeyArray) -> tuple[Array, Float[Array, " goal"]]:
        """Draw the seed of an environment. It draws its goals itself; here they are zeros."""
        return jax.random.randint(key, (), 0, 2**31 - 1), jnp.zeros(self.goal_size)

    def control(self, action: Float[Array, " action"]) -> Float[Array, " action"]:
        """Map an action from [-1, 1] onto the bounds of the environment."""
        low, high = jnp.asarray(self.about.low), jnp.asarray(self.about.high)
        return jnp.clip(0.5 * (high + low) + 0.5 * (high - low) * action, low, high)

    def observe(self, physics: Any) -> Float[Array, " observation"]:
        """Return the observation."""
        return physics.observation

    def achieved_goal(self, physics: Any) -> Float[Array, " goal"]:
        """Return the goal that this state achieves."""
        return physics.achieved_goal

    def current_goal(self, physics: Any, desired_goal: Float[Array, " goal"]) -> Float[Array, " goal"]:
        """Return the desired goal as the environment shows it."""
        del desired_goal
        return physics.desired_goal

    def success(self, achieved_goal: Float[Array, " goal"], desired_goal: Float[Array, " goal"]) -> Bool[Array, ""]:
        """Return whether `compute_reward` has its value at the goal; never, if it is not sparse."""
        if not self.about.sparse:
            return jnp.zeros((), bool)
        shape = jax.ShapeDtypeStruct((), bool)
        return jax.pure_callback(self._at_goal, shape, achieved_goal, desired_goal, vmap_method="broadcast_all")

    def reward(self, achieved_goal: Float[Array, " goal"], desired_goal: Float[Array, " goal"]) -> Float[Array, ""]:
        """Return 1 where the goal is reached."""
        return self.success(achieved_goal, desired_goal).astype(jnp.float32)

    def failed(self, physics: Any) -> Bool[Array, ""]:
        """Return whether the episode terminated here, away from the goal."""
        return physics.terminated

    def _at_goal(self, achieved: Any, desired: Any) -> np.ndarray:
        from kilolayer.envs.gym.adapter import open_env

        achieved, desired = np.asarray(achieved), np.asarray(desired)
        with self._lock:
            if self._env is None:
                self._env = open_env(self.name, self.episode_length)
                self._env.look()
            found = self._env.at_goal(*(goal.reshape(-1, self.goal_size) for goal in (achieved, desired)))
        return found.reshape(achieved.shape[:-1])


def _control_step(env: Any) -> float | None:
    for owner in (env.unwrapped, getattr(env.unwrapped, "point_env", None), getattr(env.unwrapped, "ant_env", None)):
        step = getattr(owner, "dt", None)
        if isinstance(step, float):
            return step
    fps = env.metadata.get("render_fps")
    return 1.0 / fps if fps else None
