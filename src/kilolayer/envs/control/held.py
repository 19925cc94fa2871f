"""Control of an end effector that keeps its orientation, such as a gripper that points down."""

from functools import cached_property

import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

from kilolayer.envs.control.end_effector import EndEffectorControl
from kilolayer.envs.names import xyz
from kilolayer.envs.quaternions import conjugate, multiply, to_rotation_vector
from kilolayer.envs.robot_state import RobotState


class HeldEndEffector(EndEffectorControl):
    """An action moves a site in world axes, and control turns it back to the orientation that it has at `home`.

    The first three entries of an action are steps along x, y, z. Then follow all actuators that do not carry the site,
    such as a gripper's, with the default control. The rest is as in `EndEffectorControl`.
    """

    turn_step: float = 0.2
    """Largest turn back about each axis in a control step, in radians."""

    @cached_property
    def held_quaternion(self) -> Float[np.ndarray, "4"]:
        """Orientation of the end effector at `home`."""
        model, moved = self.model, mujoco.MjData(self.model)
        moved.qpos[:] = self.first_data.qpos
        mujoco.mj_kinematics(model, moved)
        quaternion = np.zeros(4)
        mujoco.mju_mat2Quat(quaternion, moved.site(self.end_effector).xmat)
        return quaternion.astype(np.float32)

    @property
    def action_size(self) -> int:
        """The end effector's steps along three axes, and all actuators that do not carry it."""
        return super().action_size - 3

    def control(self, action: Float[Array, " action"], state: RobotState) -> Float[Array, " control"]:  # type: ignore[override]
        """Map an action to targets of the servos that carry the end effector, and to all other controls."""
        assert state.sites is not None
        now = state.sites.quaternion[self.site(self.end_effector)]
        back = to_rotation_vector(multiply(jnp.asarray(self.held_quaternion), conjugate(now)))
        turn = jnp.clip(back / self.turn_step, -1.0, 1.0)
        return super().control(jnp.concatenate([action[:3], turn, action[3:]]), state)

    @property
    def action_names(self) -> tuple[str, ...] | None:
        """Name, range and unit of each entry of an action."""
        step = f"{self.reach_step:.4g}"
        return (*xyz(f"{self.end_effector} step", f"-{step} to {step} m"), *self.other_names())

    @property
    def control_text(self) -> str | None:
        """What actions do, in one line."""
        return (
            f"actions move the site {self.end_effector!r} by {self.reach_step:g} m x action along world axes, and it "
            f"keeps its orientation, by damped least squares ({self.damping:g})"
        )
