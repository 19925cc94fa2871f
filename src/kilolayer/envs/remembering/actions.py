"""What becomes of actions on their way to a robot: delay, a low-pass filter; and the last action as an observation."""

import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs.methods import in_full
from kilolayer.envs.names import entry_names, names_below, told
from kilolayer.envs.remembering.part import memory_below
from kilolayer.envs.robot_state import RobotState
from kilolayer.envs.robot_task import RobotTask


class ActionDelay(RobotTask):
    """Actions arrive `action_delay` control steps late; before the first one the action is 0."""

    passes_on = True
    action_delay: int = 1
    """Control steps."""

    def memory(self, state: RobotState, key: PRNGKeyArray) -> dict[str, Any]:
        """Return the actions that are on their way, the oldest first: none has been chosen yet."""
        below = memory_below(super().memory, state, key, mixin=ActionDelay)
        return below | {"action_delay": jnp.zeros((self.action_delay, self.action_size))}

    def control(self, action: Float[Array, " action"], state: RobotState, memory: Any) -> Any:  # type: ignore[override]
        """Return the task's controls for the action that arrives."""
        return in_full("control", super().control)(self._on_its_way(action, memory)[0], state, memory)

    def remember(self, memory: Any, action: Float[Array, " action"], state: RobotState, key: PRNGKeyArray) -> Any:
        """Send the action on its way."""
        arriving, *_ = queue = self._on_its_way(action, memory)
        return memory | super().remember(memory, arriving, state, key) | {"action_delay": queue[1:]}

    def _on_its_way(self, action: Float[Array, " action"], memory: Any) -> Float[Array, "actions action"]:
        return jnp.concatenate([memory["action_delay"], action[None]])

    @property
    def action_names(self) -> tuple[str, ...] | None:
        """Name, range and unit of each entry of an action."""
        return names_below(self, ActionDelay, "action")

    @property
    def control_text(self) -> str | None:
        """What actions do, in one line."""
        text = told(self, "control_text", "control", below=ActionDelay) or "the task's own control"
        return f"{text}; {self.action_delay} control step{'s' * (self.action_delay != 1)} late"


class LowPass(RobotTask):
    """Actions are smoothed: what a robot gets follows the actions with a time constant of `smoothing_time`."""

    passes_on = True
    smoothing_time: float = 0.1
    """Seconds after which 63 % of a change of the action have arrived."""

    def memory(self, state: RobotState, key: PRNGKeyArray) -> dict[str, Any]:
        """Return the smoothed action: 0 at first."""
        below = memory_below(super().memory, state, key, mixin=LowPass)
        return below | {"low_pass": jnp.zeros(self.action_size)}

    def control(self, action: Float[Array, " action"], state: RobotState, memory: Any) -> Any:  # type: ignore[override]
        """Return the task's controls for the smoothed action."""
        return in_full("control", super().control)(self._smooth(action, memory), state, memory)

    def remember(self, memory: Any, action: Float[Array, " action"], state: RobotState, key: PRNGKeyArray) -> Any:
        """Keep the smoothed action."""
        smooth = self._smooth(action, memory)
        return memory | super().remember(memory, smooth, state, key) | {"low_pass": smooth}

    def _smooth(self, action: Float[Array, " action"], memory: Any) -> Float[Array, " action"]:
        kept = math.exp(-self.control_step / self.smoothing_time)
        return kept * memory["low_pass"] + (1.0 - kept) * action

    @property
    def action_names(self) -> tuple[str, ...] | None:
        """Name, range and unit of each entry of an action."""
        return names_below(self, LowPass, "action")

    @property
    def control_text(self) -> str | None:
        """What actions do, in one line."""
        text = told(self, "control_text", "control", below=LowPass) or "the task's own control"
        return f"{text}; smoothed over {self.smoothing_time:g} s"


class LastAction(RobotTask):
    """The last action is observed behind all else. Before `ActionDelay` it is the action as it was chosen, behind it
    the one that arrived. At the start of an episode it is 0.
    """

    passes_on = True

    def memory(self, state: RobotState, key: PRNGKeyArray) -> dict[str, Any]:
        """Return the last action: 0 at first."""
        below = memory_below(super().memory, state, key, mixin=LastAction)
        return below | {"last_action": jnp.zeros(self.action_size)}

    def remember(self, memory: Any, action: Float[Array, " action"], state: RobotState, key: PRNGKeyArray) -> Any:
        """Keep the action."""
        return memory | super().remember(memory, action, state, key) | {"last_action": action}

    def observe(self, state: RobotState, memory: Any, key: PRNGKeyArray) -> Float[Array, " observation"]:  # type: ignore[override]
        """Return the task's observation and the last action."""
        observation = in_full("observe", super().observe)(state, memory, key)
        return jnp.concatenate([observation, memory["last_action"]])

    @property
    def observation_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of an observation."""
        names, actions = names_below(self, LastAction, "observation"), entry_names(self, "action")
        if names is None:
            return None
        actions = actions or tuple(f"action {number}" for number in range(self.action_size))
        return (*names, *(f"last {name}" for name in actions))
