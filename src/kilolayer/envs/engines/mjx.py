"""MuJoCo XLA (MJX): MuJoCo's physics compiled by JAX, or on NVIDIA GPUs by MuJoCo Warp."""

import contextlib
import io
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kilolayer.envs.engines.jax_engine import JaxEngine
from kilolayer.envs.robot_task import RobotState, RobotTask, Start
from kilolayer.errors import ConfigurationError

Implementation = Literal["jax", "warp"]


class Carried(eqx.Module):
    """State beside positions and velocities that MJX's next step depends on."""

    time: Float[Array, "*num_envs"]
    act: Float[Array, "*num_envs na"]
    qacc_warmstart: Float[Array, "*num_envs nv"]


class MjxEngine(JaxEngine):
    """Steps all robots at once with MJX."""

    def __init__(self, task: RobotTask, *, impl: Implementation = "jax"):
        """Prepare the model of a task.

        Args:
            task: the task.
            impl: `jax`, or `warp` for NVIDIA GPUs.

        Raises:
            ConfigurationError: if MJX or Warp is not installed, or MJX does not support the model.
        """
        mjx = import_mjx(impl)
        self.model = task.model
        self.substeps = task.substeps
        self.impl = impl
        self.body_ids = np.array([self.model.body(name).id for name in task.tracked_bodies], np.int32)
        try:
            self._model = mjx.put_model(self.model, impl=impl)
        except (NotImplementedError, ValueError) as error:
            raise ConfigurationError(f"engine 'mjx' cannot run task {type(task).__name__}: {error}") from None
        self._mjx = mjx

    def init_one(self, start: Start) -> RobotState:
        """Return the state of one robot at the start of an episode."""
        data = self._make_data().replace(qpos=start.qpos, qvel=start.qvel)
        return self._state(data, jnp.zeros(self.model.nu))

    def step_one(self, state: RobotState, control: Float[Array, " nu"]) -> RobotState:
        """Advance one robot by one control step."""
        data = self._make_data().replace(
            qpos=state.qpos,
            qvel=state.qvel,
            ctrl=control,
            time=state.engine.time,
            act=state.engine.act,
            qacc_warmstart=state.engine.qacc_warmstart,
        )
        data, _ = jax.lax.scan(
            lambda data, _: (self._mjx.step(self._model, data), None), data, None, length=self.substeps
        )
        return self._state(data, control)

    def _make_data(self) -> Any:
        return self._mjx.make_data(self.model, impl=self.impl)

    def _state(self, data: Any, control: Array) -> RobotState:
        position, quaternion, velocity, angular = (jnp.zeros((0, size)) for size in (3, 4, 3, 3))
        if len(self.body_ids):
            # After a step MJX still has the poses of the bodies from before the last substep.
            data = self._mjx.com_vel(
                self._model, self._mjx.com_pos(self._model, self._mjx.kinematics(self._model, data))
            )
            position, quaternion = data.xpos[self.body_ids], data.xquat[self.body_ids]
            angular = data.cvel[self.body_ids, :3]
            root = data.subtree_com[self.model.body_rootid[self.body_ids]]
            velocity = data.cvel[self.body_ids, 3:] + jnp.cross(angular, position - root)
        return RobotState(
            qpos=data.qpos,
            qvel=data.qvel,
            control=control,
            position=position,
            quaternion=quaternion,
            velocity=velocity,
            angular_velocity=angular,
            engine=Carried(time=data.time, act=data.act, qacc_warmstart=data.qacc_warmstart),
        )


def import_mjx(impl: Implementation) -> Any:
    """Return the module `mujoco.mjx`.

    Args:
        impl: `jax`, or `warp`, which needs Warp, too.

    Raises:
        ConfigurationError: if a package is not installed.
    """
    try:
        # On import MJX prints that Warp is missing, even if it is not used.
        with contextlib.redirect_stdout(io.StringIO()):
            from mujoco import mjx
    except ImportError:
        raise ConfigurationError("engine 'mjx' needs MuJoCo XLA; install it: pip install 'kilolayer[mjx]'") from None
    if impl == "warp":
        try:
            import warp  # noqa: F401
        except ImportError:
            raise ConfigurationError(
                "engine 'mjx-warp' needs MuJoCo Warp; install it: pip install 'kilolayer[warp]'"
            ) from None
    return mjx
