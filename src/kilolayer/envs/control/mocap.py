"""Control of a mocap body by actions: a robot that hangs from it by a weld follows, as in Fetch."""

from functools import cached_property

import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

from kilolayer.envs.names import xyz
from kilolayer.envs.robot_state import Command, Mocap, RobotState
from kilolayer.envs.robot_task import RobotTask
from kilolayer.errors import ConfigurationError, nearest_names


class MocapControl(RobotTask):
    """The first three entries of an action move a mocap body in world axes; the others are the model's actuators.

    Raises:
        ConfigurationError: if the model has no mocap body of this name.
    """

    mocap_body: str = ""
    """Name of the mocap body; empty takes the only one."""
    reach_step: float = 0.05
    """Largest step along each axis in a control step, in metres."""
    mocap_low: tuple[float, float, float] = (-np.inf, -np.inf, -np.inf)
    """Least x, y, z of the mocap body, in metres."""
    mocap_high: tuple[float, float, float] = (np.inf, np.inf, np.inf)
    """Greatest x, y, z of the mocap body, in metres."""

    @cached_property
    def _mocap_number(self) -> int:
        model = self.model
        bodies = {model.body(int(body)).name: int(model.body_mocapid[body]) for body in _mocap_bodies(model)}
        if self.mocap_body in bodies:
            return bodies[self.mocap_body]
        if len(bodies) == 1 and not self.mocap_body:
            return 0
        raise ConfigurationError(
            f"task {type(self).__name__}: mocap_body={self.mocap_body!r} is no mocap body of the model; "
            f"{nearest_names(self.mocap_body, bodies)}"
        )

    @property
    def action_size(self) -> int:
        """Three entries for the mocap body, and one for each actuator."""
        return 3 + int(self.model.nu)

    def control(self, action: Float[Array, " action"], state: RobotState) -> Command:  # type: ignore[override]
        """Map an action to a pose of the mocap body, and to controls."""
        assert state.mocap is not None
        number, position = self._mocap_number, state.mocap.position
        moved = position[number] + self.reach_step * action[:3]
        moved = jnp.clip(moved, jnp.asarray(self.mocap_low), jnp.asarray(self.mocap_high))
        return Command(super().control(action[3:]), Mocap(position.at[number].set(moved), state.mocap.quaternion))

    @property
    def action_names(self) -> tuple[str, ...] | None:
        """Name, range and unit of each entry of an action."""
        name = next(
            self.model.body(int(body)).name
            for body in _mocap_bodies(self.model)
            if self.model.body_mocapid[body] == self._mocap_number
        )
        step = f"{self.reach_step:.4g}"
        others = RobotTask.action_names.fget(self)  # type: ignore[attr-defined]
        return (*xyz(f"{name} step", f"-{step} to {step} m"), *others)

    @property
    def control_text(self) -> str | None:
        """What actions do, in one line."""
        return f"actions move the mocap body by {self.reach_step:g} m x action along world axes; then the actuators"


def _mocap_bodies(model: mujoco.MjModel) -> np.ndarray:
    return np.flatnonzero(model.body_mocapid >= 0)
