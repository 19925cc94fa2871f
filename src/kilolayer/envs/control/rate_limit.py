"""A limit on how fast controls change."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from kilolayer.envs.control.servos import ServoSteps
from kilolayer.envs.methods import in_full
from kilolayer.envs.names import names_below, told
from kilolayer.envs.robot_state import Command, RobotState


class RateLimit(ServoSteps):
    """Controls change by at most `control_rate` a second, whatever the task tells.

    It stands before what it limits: `class Slow(RateLimit, JointDeltas, RobotTask)`.
    """

    passes_on = True
    control_rate: float = 1.0
    """Largest change of a control in a second, in the control's unit, such as radians of a servo's target."""

    def control(self, action: Float[Array, " action"], state: RobotState, memory: Any) -> Any:  # type: ignore[override]
        """Return the task's controls, or as near to them as the limit allows."""
        wanted = in_full("control", super().control)(action, state, memory)
        most = self.control_rate * self.control_step
        control = wanted.control if isinstance(wanted, Command) else wanted
        control = jnp.clip(control, state.control - most, state.control + most)
        return Command(control, wanted.mocap) if isinstance(wanted, Command) else control

    @property
    def action_names(self) -> tuple[str, ...] | None:
        """Name, range and unit of each entry of an action."""
        return names_below(self, RateLimit, "action")

    @property
    def control_text(self) -> str | None:
        """What actions do, in one line."""
        text = told(self, "control_text", "control", below=RateLimit) or "the task's own control"
        return f"{text}; controls change by at most {self.control_rate:g} a second"
