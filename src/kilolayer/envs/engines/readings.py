"""What an engine reads from its physics for a task beside joint positions: which bodies, sites, sensors and so on."""

from collections.abc import Collection

import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

from kilolayer.envs.quaternions import multiply, rotate
from kilolayer.envs.robot_state import Frames
from kilolayer.envs.robot_task import RobotTask
from kilolayer.errors import ConfigurationError

Moving = tuple[Array, Array, Array, Array]
"""Positions, quaternions, velocities and angular velocities of bodies or sites."""


class Readings:
    """Where in a model everything is that a task reads.

    An engine computes the frames of the bodies `body_ids`: the task's tracked bodies, then those that have its sites.
    """

    def __init__(self, task: RobotTask):
        """Look up the names of a task in its model."""
        model = self.model = task.model
        self.bodies = len(task.tracked_bodies)
        self.site_ids = np.array([model.site(name).id for name in task.tracked_sites], np.int32)
        tracked = np.array([model.body(name).id for name in task.tracked_bodies], np.int32)
        self.body_ids = np.concatenate([tracked, model.site_bodyid[self.site_ids]]).astype(np.int32)
        self.sensor_ids = np.array([model.sensor(name).id for name in task.tracked_sensors], np.int32)
        self.numbers = np.concatenate([np.zeros(0, np.int32), *map(self._numbers, self.sensor_ids.tolist())])
        """Of all numbers that the model's sensors give, those that the task reads."""
        self.quantities = task.tracked_quantities
        self.moved_by = dofs_that_move(model)[self.body_ids]
        """1 where a degree of freedom moves a body, as an array of shape (bodies, degrees of freedom)."""

    def _numbers(self, sensor: int) -> np.ndarray:
        first = int(self.model.sensor_adr[sensor])
        return np.arange(first, first + int(self.model.sensor_dim[sensor]), dtype=np.int32)

    @property
    def jacobian(self) -> bool:
        """Whether the task reads the Jacobians of its sites."""
        return "site_jacobian" in self.quantities and bool(self.site_ids.size)

    @property
    def accelerations(self) -> bool:
        """Whether a sensor needs forces or accelerations, such as one of touch."""
        return bool(np.any(self.model.sensor_needstage[self.sensor_ids] == mujoco.mjtStage.mjSTAGE_ACC))

    def split(self, bodies: Moving, root: Array, axes: Array | None) -> tuple[Moving, Frames | None]:
        """Divide frames of `body_ids` into those of the task's bodies, and those of its sites.

        Args:
            bodies: of `body_ids`, with any leading axes.
            root: centre of mass of the kinematic tree of each, in metres; used only for Jacobians.
            axes: MuJoCo's `cdof`, of shape (nv, 6); None without Jacobians.
        """
        if not self.site_ids.size:
            return bodies, None
        position, quaternion, velocity, angular = (part[..., self.bodies :, :] for part in bodies)
        lever = rotate(quaternion, jnp.asarray(self.model.site_pos[self.site_ids], jnp.float32))
        place = position + lever
        turned = multiply(quaternion, jnp.asarray(self.model.site_quat[self.site_ids], jnp.float32))
        jacobian = None
        if axes is not None and self.jacobian:
            jacobian = self._jacobian(place - root[..., self.bodies :, :], axes)
        sites = Frames(place, turned, velocity + jnp.cross(angular, lever), angular, jacobian)
        position, quaternion, velocity, angular = (part[..., : self.bodies, :] for part in bodies)
        return (position, quaternion, velocity, angular), sites

    def _jacobian(
        self, lever: Float[Array, "*num_envs sites 3"], axes: Float[Array, "*num_envs nv 6"]
    ) -> Float[Array, "*num_envs sites 6 nv"]:
        """Return the velocity of each site for a velocity of 1 of each degree of freedom."""
        turning, sliding = axes[..., None, :, :3], axes[..., None, :, 3:]
        linear = sliding + jnp.cross(turning, lever[..., :, None, :])
        both = jnp.concatenate([linear, jnp.broadcast_to(turning, linear.shape)], axis=-1)
        moved = jnp.asarray(self.moved_by[self.bodies :])[..., None]
        return jnp.swapaxes(both * moved, -1, -2)


def dofs_that_move(model: mujoco.MjModel) -> np.ndarray:
    """Return 1 where a degree of freedom moves a body, as an array of shape (bodies, degrees of freedom)."""
    moves = np.zeros((model.nbody, model.nv), np.float32)
    for body in range(1, model.nbody):
        moves[body] = moves[model.body_parentid[body]]
        moves[body, model.dof_bodyid == body] = 1.0
    return moves


KINDS = {
    "sites": "sites",
    "sensors": "sensors",
    "site_jacobian": "Jacobians of sites",
    "act": "activations",
    "tendon_length": "lengths of tendons",
    "time": "time",
}
"""What a task may read that not every engine has, and how an error line calls it."""


def check_readings(task: RobotTask, engine: str, has: Collection[str]) -> None:
    """Check that an engine tells everything that a task reads.

    Args:
        task: the task.
        engine: name of the engine.
        has: those of `KINDS` that the engine tells.

    Raises:
        ConfigurationError: naming what the engine lacks.
    """
    for quantity in task.tracked_quantities:
        if quantity not in KINDS or quantity in ("sites", "sensors"):
            names = ", ".join(repr(name) for name in KINDS if name not in ("sites", "sensors"))
            raise ConfigurationError(f"task {type(task).__name__}: quantities has {quantity!r}; there are {names}")
    if "site_jacobian" in task.tracked_quantities and not task.tracked_sites:
        raise ConfigurationError(
            f"task {type(task).__name__}: quantities has 'site_jacobian', but the task names no site; set `sites`"
        )
    asked = {"sites": task.tracked_sites, "sensors": task.tracked_sensors}
    missing = [f"{KINDS[kind]} ({', '.join(names)})" for kind, names in asked.items() if names and kind not in has]
    missing += [KINDS[quantity] for quantity in task.tracked_quantities if quantity not in has]
    if missing:
        raise ConfigurationError(
            f"engine {engine!r} cannot run task {type(task).__name__}: it does not tell {', '.join(missing)}"
        )
