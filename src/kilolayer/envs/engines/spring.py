"""Brax's spring pipeline: the physics of the paper's ant and humanoid figures."""

import contextlib
import copy
import io
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kilolayer.envs.engines.features import (
    CRASHES_SPRING,
    FEATURES,
    TUNED_FOR_SPRING,
    check_features,
    is_tuned_for_spring,
)
from kilolayer.envs.engines.jax_engine import JaxEngine
from kilolayer.envs.engines.near_boxes import near_boxes
from kilolayer.envs.robot_task import RobotState, RobotTask, Start
from kilolayer.errors import ConfigurationError


class SpringEngine(JaxEngine):
    """Steps all robots at once with Brax's spring pipeline. Of many walls it keeps those near each robot.

    Brax ignores joint armature, damping and stiffness of the model and uses its custom numbers, such as
    `constraint_stiffness`, instead.
    """

    def __init__(self, task: RobotTask):
        """Prepare the model of a task.

        Args:
            task: the task.

        Raises:
            ConfigurationError: if Brax is not installed or does not support the model.
        """
        mjcf, self._pipeline = import_spring()
        self.model = task.model
        tuned = TUNED_FOR_SPRING if is_tuned_for_spring(self.model) else ()
        features = tuple(name for name in FEATURES if name not in tuned)
        check_features(task, "spring", features, never=CRASHES_SPRING)
        self.substeps = task.substeps
        self.near = near_boxes(task.build, self.model, task.control_step)
        moved = self.model if self.near is None else self.near.model
        try:
            # Brax edits the model that it loads: it writes infinities into ranges without limits.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Brax warns at every load that its physics is no longer developed
                self._system = mjcf.load_model(copy.deepcopy(moved))
            mjcf.validate_model(self.model)
        except (NotImplementedError, ValueError, RuntimeError) as error:
            raise ConfigurationError(f"engine 'spring' cannot run task {type(task).__name__}: {error}") from None
        self._links = np.array([self._system.link_names.index(name) for name in task.tracked_bodies], np.int32)

    def init_one(self, start: Start) -> RobotState:
        """Return the state of one robot at the start of an episode."""
        return self._state(self._pipeline.init(self._system, start.qpos, start.qvel), jnp.zeros(self.model.nu))

    def step_one(self, state: RobotState, control: Float[Array, " nu"]) -> RobotState:
        """Advance one robot by one control step."""
        system = self._system_near(state.engine)
        inner, _ = jax.lax.scan(
            lambda inner, _: (self._pipeline.step(system, inner, control), None),
            state.engine,
            None,
            length=self.substeps,
        )
        return self._state(inner, control)

    def _system_near(self, inner: Any) -> Any:
        """Return the system with the boxes that the robot can touch in the next control step."""
        if self.near is None:
            return self._system
        root = self._system.link_names.index(self.near.root)
        position, size = self.near.nearest(inner.x.pos[root])
        geoms = self.near.geoms
        return self._system.replace(
            geom_pos=jnp.asarray(self._system.geom_pos).at[geoms].set(position),
            geom_size=jnp.asarray(self._system.geom_size).at[geoms].set(size),
        )

    def _state(self, inner: Any, control: Array) -> RobotState:
        return RobotState(
            qpos=inner.q,
            qvel=inner.qd,
            control=control,
            position=inner.x.pos[self._links],
            quaternion=inner.x.rot[self._links],
            velocity=inner.xd.vel[self._links],
            angular_velocity=inner.xd.ang[self._links],
            engine=inner,
        )


def import_spring() -> tuple[Any, Any]:
    """Return Brax's MJCF loader and spring pipeline.

    Raises:
        ConfigurationError: if Brax is not installed.
    """
    try:
        # Brax imports MJX, which prints that Warp is missing.
        with contextlib.redirect_stdout(io.StringIO()):
            from brax.io import mjcf
            from brax.spring import pipeline
    except ImportError:
        raise ConfigurationError("engine 'spring' needs Brax; install it: pip install 'kilolayer[brax]'") from None
    return mjcf, pipeline
