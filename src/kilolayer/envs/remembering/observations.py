"""Observations that arrive late."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs.methods import in_full
from kilolayer.envs.names import names_below
from kilolayer.envs.remembering.part import memory_below
from kilolayer.envs.robot_state import RobotState
from kilolayer.envs.robot_task import RobotTask


class ObservationDelay(RobotTask):
    """Observations are those of `observation_delay` control steps ago; at first, that of the start.

    Goals, success and failure are those of now: a policy does not see them late, because it does not see them.
    """

    passes_on = True
    observation_delay: int = 1
    """Control steps."""

    def memory(self, state: RobotState, key: PRNGKeyArray) -> dict[str, Any]:
        """Return the observations that are on their way, the oldest first: all are that of the start."""
        below_key, look_key = jax.random.split(key)
        below = memory_below(super().memory, state, below_key, mixin=ObservationDelay)
        first = in_full("observe", super().observe)(state, below, look_key)
        return below | {"observation_delay": jnp.broadcast_to(first, (self.observation_delay + 1, *first.shape))}

    def remember(self, memory: Any, action: Float[Array, " action"], state: RobotState, key: PRNGKeyArray) -> Any:
        """Send the observation of now on its way."""
        below_key, look_key = jax.random.split(key)
        memory = memory | super().remember(memory, action, state, below_key)
        newest = in_full("observe", super().observe)(state, memory, look_key)
        return memory | {"observation_delay": jnp.concatenate([memory["observation_delay"][1:], newest[None]])}

    def observe(self, state: RobotState, memory: Any) -> Float[Array, " observation"]:  # type: ignore[override]
        """Return the observation that arrives."""
        del state
        return memory["observation_delay"][0]

    @property
    def observation_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of an observation."""
        return names_below(self, ObservationDelay, "observation")
