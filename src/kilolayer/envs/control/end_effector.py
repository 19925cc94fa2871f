"""Control of an end effector in space: small steps of a site, turned into steps of joints by its Jacobian."""

from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from kilolayer.envs import servos
from kilolayer.envs.control.servos import ServoSteps
from kilolayer.envs.engines.readings import dofs_that_move
from kilolayer.envs.names import xyz
from kilolayer.envs.robot_state import Quantity, RobotState
from kilolayer.errors import ConfigurationError


class EndEffectorControl(ServoSteps):
    """An action moves a site in world axes; position servos of the joints that carry it follow.

    The first three entries of an action are steps along x, y, z; with `turn_step` three more are rotations about the
    world axes. Then follow all actuators that do not carry the site, such as a gripper's, with the default control.

    The joints' steps dq are those of damped least squares: dq = J' (J J' + damping^2 I)^-1 dx, with the Jacobian J of
    the site at the current pose. They are added to the last targets, so that an action of 0 holds the robot.

    Source: Nakamura and Hanafusa 1986, and Wampler 1986.

    Raises:
        ConfigurationError: if no site is named, or no position servo carries it.
    """

    end_effector: str = ""
    """Name of the site that actions move."""
    reach_step: float = 0.05
    """Largest step along each axis in a control step, in metres."""
    turn_step: float = 0.0
    """Largest rotation about each axis in a control step, in radians; 0 leaves the orientation to the joints."""
    damping: float = 0.05
    """Larger values keep joints slow near singular poses, and follow less exactly: near straight arms a step is shorter
    than it was asked to be. In the units of the Jacobian, metres per radian."""

    @cached_property
    def tracked_sites(self) -> tuple[str, ...]:
        """Sites in `RobotState.sites`, with the end effector."""
        if not self.end_effector:
            raise ConfigurationError(f"task {type(self).__name__}: end_effector is missing; name a site of the model")
        known, site = super().tracked_sites, self.end_effector
        return known if site in known else self._known("site", (*known, site))

    @cached_property
    def tracked_quantities(self) -> tuple[Quantity, ...]:
        """Quantities in `RobotState`, with the Jacobians of sites."""
        known = super().tracked_quantities
        return known if "site_jacobian" in known else (*known, "site_jacobian")

    @cached_property
    def steered_servos(self) -> Int[np.ndarray, " servos"]:
        """The servos of the joints that carry the end effector."""
        model, found = self.model, super().steered_servos
        body = model.site(self.end_effector).bodyid[0]
        carried = found[dofs_that_move(model)[body, self._dofs(found)] > 0.0]
        if not carried.size:
            raise ConfigurationError(
                f"task {type(self).__name__}: no position servo moves a joint that carries the site "
                f"end_effector={self.end_effector!r}"
            )
        return carried

    def _dofs(self, steered: Int[np.ndarray, " servos"]) -> Int[np.ndarray, " servos"]:
        return self.model.jnt_dofadr[self.model.actuator_trnid[steered, 0]]

    @property
    def _axes(self) -> int:
        """Entries of an action that move the end effector."""
        return 6 if self.turn_step else 3

    @property
    def action_size(self) -> int:
        """The end effector's steps, and all actuators that do not carry it."""
        return self._axes + int(self.model.nu) - self.steered_servos.size

    def control(self, action: Float[Array, " action"], state: RobotState) -> Float[Array, " control"]:  # type: ignore[override]
        """Map an action to targets of the servos that carry the end effector, and to all other controls."""
        assert state.sites is not None
        assert state.sites.jacobian is not None
        steered, axes = self.steered_servos, self._axes
        sizes = np.array([self.reach_step] * 3 + [self.turn_step] * (axes - 3), np.float32)
        jacobian = state.sites.jacobian[self.site(self.end_effector)][:axes, self._dofs(steered)]
        step = damped_least_squares(jacobian, jnp.asarray(sizes) * action[:axes], self.damping)
        change = jnp.asarray(servos.control_per_joint(self.model, steered)) * step
        return self.steer(state, state.control[steered] + change, action[axes:])

    @property
    def action_names(self) -> tuple[str, ...] | None:
        """Name, range and unit of each entry of an action."""
        site, step, turn = self.end_effector, f"{self.reach_step:.4g}", f"{self.turn_step:.4g}"
        names = xyz(f"{site} step", f"-{step} to {step} m")
        if self.turn_step:
            names += xyz(f"{site} turn about", f"-{turn} to {turn} rad")
        return (*names, *self.other_names())

    @property
    def control_text(self) -> str | None:
        """What actions do, in one line."""
        turns = f", and turn it by {self.turn_step:g} rad x action" if self.turn_step else ""
        return (
            f"actions move the site {self.end_effector!r} by {self.reach_step:g} m x action along world axes{turns}, "
            f"by damped least squares ({self.damping:g})"
        )


def damped_least_squares(
    jacobian: Float[Array, "rows joints"], change: Float[Array, " rows"], damping: float
) -> Float[Array, " joints"]:
    """Return the step of joints that makes a change nearly, and stays small near singular poses.

    Args:
        jacobian: change for each joint's step of 1.
        change: what is asked for.
        damping: above 0.
    """
    square = jnp.matmul(jacobian, jacobian.T, precision="highest") + damping**2 * jnp.eye(len(jacobian))
    return jnp.matmul(jacobian.T, jnp.linalg.solve(square, change), precision="highest")
