"""MuJoCo XLA (MJX): MuJoCo's physics compiled by JAX, or on NVIDIA GPUs by MuJoCo Warp."""

import contextlib
import copy
import functools
import io
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

from kilolayer.envs.engines.features import DROPPED_BY_MJX, check_features
from kilolayer.envs.engines.jax_engine import JaxEngine
from kilolayer.envs.engines.readings import KINDS, Readings, check_readings, dofs_that_move
from kilolayer.envs.robot_state import Command, Mocap, RobotState, Start
from kilolayer.envs.robot_task import RobotTask
from kilolayer.errors import ConfigurationError

Implementation = Literal["jax", "warp"]

NO_ROOM = ("NEFC", "NJMAX_NNZ", "BROADPHASE", "NARROWPHASE", "CCD")
"""Names of Warp's flags that contacts or constraints found no room and were left out of a step."""


class Carried(eqx.Module):
    """State beside positions and velocities that MJX's next step depends on."""

    time: Float[Array, "*num_envs"]
    act: Float[Array, "*num_envs na"]
    qacc_warmstart: Float[Array, "*num_envs nv"]


class MjxEngine(JaxEngine):
    """Steps all robots at once with MJX.

    Warp leaves out contacts and constraints for which there is no room. A robot to which that happens gets a state of
    NaN: it has diverged, which is counted, and ends training if it happens often.
    """

    def __init__(self, task: RobotTask, *, impl: Implementation = "jax"):
        """Prepare the model of a task.

        Args:
            task: the task.
            impl: `jax`, or `warp` for NVIDIA GPUs.

        Raises:
            ConfigurationError: if MJX or Warp is not installed, or MJX does not support the model.
        """
        mjx = import_mjx(impl)
        check_features(task, "mjx", DROPPED_BY_MJX)
        check_readings(task, "mjx", tuple(KINDS))
        self.model = task.model
        if impl == "warp":
            # Warp never resets a robot by itself, and refuses the flag that says so.
            self.model = copy.copy(self.model)
            self.model.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        self.substeps = task.substeps
        self.impl = impl
        self.readings = Readings(task)
        self.body_ids = self.readings.body_ids
        first = task.first_data
        self._first_act = first.act.astype(np.float32)
        self._first_mocap = (first.mocap_pos.astype(np.float32), first.mocap_quat.astype(np.float32))
        self._contacts, self._rows = contact_limits(self.model) if impl == "warp" else (0, 0)
        try:
            self._model = mjx.put_model(self.model, impl=impl)
        except (NotImplementedError, ValueError) as error:
            raise ConfigurationError(f"engine 'mjx' cannot run task {type(task).__name__}: {error}") from None
        self._mjx = mjx
        self._no_room = 0
        if impl == "warp":
            from mujoco.mjx.third_party.mujoco_warp import OverflowType

            self._no_room = int(sum(OverflowType[name] for name in NO_ROOM))
            # Warp would print a line for every robot and step in which it happens.
            self._model = self._model.tree_replace({"opt._impl.warn_overflow": 0})

    def init(self, start: Start) -> RobotState:
        """Return the state of all robots at the start of an episode."""
        return jax.vmap(functools.partial(self.init_one, num_envs=len(start.qpos)))(start)

    def step(self, state: RobotState, control: Float[Array, "num_envs nu"] | Command) -> RobotState:
        """Advance every robot by one control step."""
        return jax.vmap(functools.partial(self.step_one, num_envs=len(state.qpos)))(state, control)

    def init_one(self, start: Start, num_envs: int = 1) -> RobotState:
        """Return the state of one of `num_envs` robots at the start of an episode."""
        act = jnp.asarray(self._first_act) if start.act is None else start.act
        data = self._make_data(num_envs).replace(qpos=start.qpos, qvel=start.qvel, act=act)
        if self.model.nmocap:
            first = Mocap(*map(jnp.asarray, self._first_mocap))
            data = _with_mocap(data, first if start.mocap is None else start.mocap)
        return self._state(data, jnp.zeros(self.model.nu) if start.control is None else start.control)

    def step_one(self, state: RobotState, control: Float[Array, " nu"] | Command, num_envs: int = 1) -> RobotState:
        """Advance one of `num_envs` robots by one control step."""
        command = control if isinstance(control, Command) else Command(control)
        data = self._make_data(num_envs).replace(
            qpos=state.qpos,
            qvel=state.qvel,
            ctrl=command.control,
            time=state.engine.time,
            act=state.engine.act,
            qacc_warmstart=state.engine.qacc_warmstart,
        )
        if (mocap := command.mocap or state.mocap) is not None:
            data = _with_mocap(data, mocap)
        data, _ = jax.lax.scan(
            lambda data, _: (self._mjx.step(self._model, data), None), data, None, length=self.substeps
        )
        if self._no_room:
            found_no_room = (data._impl.overflow & self._no_room) != 0
            data = data.replace(qpos=jnp.where(found_no_room, jnp.nan, data.qpos))
        return self._state(data, command.control)

    def _make_data(self, num_envs: int) -> Any:
        # In Warp all robots share the room for contacts; each has its own for the rows of constraints.
        sizes = {} if self.impl == "jax" else {"naconmax": num_envs * self._contacts, "njmax": self._rows}
        return self._mjx.make_data(self.model, impl=self.impl, **sizes)

    def _state(self, data: Any, control: Array) -> RobotState:
        readings, asked = self.readings, self.readings.quantities
        position, quaternion, velocity, angular = (jnp.zeros((0, size)) for size in (3, 4, 3, 3))
        carried = Carried(time=data.time, act=data.act, qacc_warmstart=data.qacc_warmstart)
        sites, tendons = None, "tendon_length" in asked
        # After a step MJX still has the poses of the bodies from before the last substep.
        if readings.sensor_ids.size or (tendons and self.impl == "warp"):  # all else is computed with them
            data = self._mjx.forward(self._model, data.replace(ctrl=control))
        elif len(self.body_ids) or tendons:
            data = self._mjx.com_pos(self._model, self._mjx.kinematics(self._model, data))
            data = self._mjx.tendon(self._model, data) if tendons else data
        if len(self.body_ids):
            position, quaternion = data.xpos[self.body_ids], data.xquat[self.body_ids]
            # A body's velocity is the sum over the degrees of freedom that move it; `mjx.com_vel` is not in Warp.
            spatial = jnp.einsum("bv,vk->bk", readings.moved_by, data.cdof * data.qvel[:, None], precision="highest")
            angular = spatial[:, :3]
            root = data.subtree_com[self.model.body_rootid[self.body_ids]]
            velocity = spatial[:, 3:] + jnp.cross(angular, position - root)
            (position, quaternion, velocity, angular), sites = readings.split(
                (position, quaternion, velocity, angular), root, data.cdof
            )
        return RobotState(
            qpos=data.qpos,
            qvel=data.qvel,
            control=control,
            position=position,
            quaternion=quaternion,
            velocity=velocity,
            angular_velocity=angular,
            engine=carried,
            sites=sites,
            sensors=data.sensordata[readings.numbers] if readings.sensor_ids.size else None,
            act=data.act if "act" in asked else None,
            tendon_length=data.ten_length if tendons else None,
            time=data.time if "time" in asked else None,
            mocap=Mocap(data.mocap_pos, data.mocap_quat) if self.model.nmocap else None,
        )


def _with_mocap(data: Any, mocap: Mocap) -> Any:
    """Return MJX's state with mocap bodies elsewhere."""
    return data.replace(mocap_pos=mocap.position, mocap_quat=mocap.quaternion)


def contact_limits(model: mujoco.MjModel) -> tuple[int, int]:
    """Return for how many contacts and rows of constraints of a robot MuJoCo Warp allocates room.

    Four contacts for each geom that moves and can collide, at least 16. Contacts have no bound that is of use; robots
    share the room for them, so that the mean counts.
    """
    moves = dofs_that_move(model)[model.geom_bodyid].max(axis=1, initial=0.0) > 0.0
    collides = (model.geom_contype | model.geom_conaffinity) != 0
    contacts = max(16, 4 * int(np.sum(moves & collides)))
    pyramidal = model.opt.cone == mujoco.mjtCone.mjCONE_PYRAMIDAL
    condim = int(model.geom_condim.max(initial=1))
    rows = contacts * (max(1, 2 * (condim - 1)) if pyramidal else condim)
    limits = int(model.jnt_limited.sum()) + int(model.tendon_limited.sum())
    friction = int(np.sum(model.dof_frictionloss > 0)) + int(np.sum(model.tendon_frictionloss > 0))
    return contacts, rows + 6 * model.neq + limits + friction


def import_mjx(impl: Implementation) -> Any:
    """Return the module `mujoco.mjx`.

    Args:
        impl: `jax`, or `warp`, which needs Warp, too.

    Raises:
        ConfigurationError: if a package is not installed.
    """
    try:
        import warp
    except ImportError:
        if impl == "warp":
            raise ConfigurationError(
                "engine 'mjx-warp' needs MuJoCo Warp; install it: pip install 'kilolayer[warp]'"
            ) from None
    else:
        # Else Warp prints its devices and every kernel that it compiles, between the lines of `--json`.
        warp.config.log_level = warp.LOG_WARNING
    try:
        # On import MJX prints that Warp is missing, even if it is not used.
        with contextlib.redirect_stdout(io.StringIO()):
            from mujoco import mjx
    except ImportError:
        raise ConfigurationError("engine 'mjx' needs MuJoCo XLA; install it: pip install 'kilolayer[mjx]'") from None
    return mjx
