"""Sensors that are not exact."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs.methods import in_full
from kilolayer.envs.names import names_below
from kilolayer.envs.robot_state import RobotState
from kilolayer.envs.robot_task import RobotTask
from kilolayer.errors import ConfigurationError


class SensorNoise(RobotTask):
    """Normal noise on each entry of the observation, new in every step. Goals, success and failure are exact.

    Raises:
        ConfigurationError: if the noise is not one number, or one for each entry of the observation.
    """

    passes_on = True
    observation_noise: float | Sequence[float] = 0.01
    """Standard deviation, in the unit of each entry: one for all, or one for each."""

    def observe(self, state: RobotState, memory: Any, key: PRNGKeyArray) -> Float[Array, " observation"]:  # type: ignore[override]
        """Return the task's observation with noise."""
        below_key, noise_key = jax.random.split(key)
        observation = in_full("observe", super().observe)(state, memory, below_key)
        if not self.randomized:
            return observation
        size = np.asarray(self.observation_noise, np.float32)
        if size.shape not in ((), observation.shape) or not np.all((size >= 0.0) & np.isfinite(size)):
            raise ConfigurationError(
                f"task {type(self).__name__}: observation_noise={self.observation_noise!r} must be a number from 0 on, "
                f"or one for each of {observation.size} entries of the observation"
            )
        return observation + size * jax.random.normal(noise_key, observation.shape)

    @property
    def observation_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of an observation."""
        return names_below(self, SensorNoise, "observation")

    @property
    def random_parts(self) -> tuple[str, ...]:
        """What is drawn to make a policy robust, in words."""
        size = np.asarray(self.observation_noise)
        text = f"{size:g}" if not size.ndim else f"{size.min():g} to {size.max():g}"
        return (*super().random_parts, f"in each step: noise of {text} on the observation")
