"""Control by small steps of joints: of their targets, or from where the joints are."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kilolayer.envs import servos
from kilolayer.envs.control.servos import ServoSteps, joint_names
from kilolayer.envs.robot_state import RobotState


class JointDeltas(ServoSteps):
    """An action moves the target of each position servo by up to `joint_step` from its last target.

    An action of 0 holds the targets. Other actuators keep the default control of `RobotTask`. An action has an entry
    for each actuator: first the steered servos, then all others, both in the model's order.
    """

    joint_step: float = 0.05
    """Largest step of a target in a control step, in radians or metres of its joint."""

    def control(self, action: Float[Array, " action"], state: RobotState) -> Float[Array, " control"]:  # type: ignore[override]
        """Map an action to targets near the last ones, which `state.control` holds."""
        count = self.steered_servos.size
        return self.steer(state, self._from(state) + self._steps() * action[:count], action[count:])

    def _from(self, state: RobotState) -> Float[Array, " servos"]:
        """Return the targets from which a step is made."""
        return state.control[self.steered_servos]

    def step_rule(self) -> dict[str, Any]:
        """Return what `control` computes as plain data, for a control loop without the library.

        `servos` are the steered ones, by their place among the actuators, and `others` the rest. Targets move by `step`
        times the action from `from`, the last `targets` or where the `joints` are; stay within `lead` of the joints, if
        it is not null; and within `low` and `high`. The others are at `low` for an action of -1 and at `high` for 1.
        All are in units of controls.
        """
        model, steered = self.model, self.steered_servos
        rest = np.setdiff1d(np.arange(model.nu), steered)
        per_joint = servos.control_per_joint(model, steered)
        ends, limits = self.action_ends.copy(), servos.control_limits(model)
        ends[:, steered] = limits[:, steered]
        return {
            "servos": steered.tolist(),
            "others": rest.tolist(),
            "from": "joints" if isinstance(self, JointRelative) else "targets",
            "step": (self.joint_step * per_joint).tolist(),
            "lead": None if self.lead is None else (self.lead * np.abs(per_joint)).tolist(),
            "control_per_joint": per_joint.tolist(),
            "low": ends[0].tolist(),
            "high": ends[1].tolist(),
        }

    def _steps(self) -> Float[Array, " servos"]:
        return self.joint_step * jnp.asarray(servos.control_per_joint(self.model, self.steered_servos))

    @property
    def action_names(self) -> tuple[str, ...] | None:
        """Name, range and unit of each entry of an action."""
        step = f"{self.joint_step:.4g}"
        named = joint_names(self, self.steered_servos)
        return (*(f"{name} target step (-{step} to {step} {unit})" for name, unit in named), *self.other_names())

    @property
    def control_text(self) -> str | None:
        """What actions do, in one line."""
        lead = "" if self.lead is None else f", at most {self.lead:g} ahead of the joint"
        return f"targets of position servos move by {self.joint_step:g} x action from the last targets{lead}"


class JointRelative(JointDeltas):
    """An action moves the target of each position servo by up to `joint_step` from where its joint is.

    An action of 0 tells servos to stay where they are, so that a weight makes them sink; `JointDeltas` holds it. The
    last targets do not matter, and are not observed.
    """

    observe_ahead = False

    def _from(self, state: RobotState) -> Float[Array, " servos"]:
        return servos.holding(self.model, self.steered_servos, state.qpos)

    @property
    def control_text(self) -> str | None:
        """What actions do, in one line."""
        return f"targets of position servos are where the joints are + {self.joint_step:g} x action"
