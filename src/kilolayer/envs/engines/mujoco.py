"""MuJoCo's C engine on all cores of the CPU, usable inside `jit` and `scan`.

The JAX state contains the complete physics state of every robot, including the solver's warm start, as a row of float64
numbers. It is stored as uint32 words, because JAX uses float32 by default. A simulation resumed from a state therefore
continues bit for bit.
"""

import dataclasses
import math
import threading
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import mujoco.batch
import numpy as np
from jaxtyping import Array, Bool, Float, UInt32

from kilolayer.envs.engines.model_fields import Fields, ModelFields, check_randomize
from kilolayer.envs.engines.readings import KINDS, Readings, check_readings
from kilolayer.envs.engines.restart import where_envs
from kilolayer.envs.robot_state import Command, Mocap, RobotState, Start
from kilolayer.envs.robot_task import RobotTask
from kilolayer.envs.robots.mjcf import one_line
from kilolayer.errors import ConfigurationError

BODY_FIELDS = ("xpos", "xquat", "cvel", "subtree_com")
MOCAP_FIELDS = ("mocap_pos", "mocap_quat")


class Rows(eqx.Module):
    """Everything that MuJoCo's next step depends on."""

    bits: UInt32[Array, "*num_envs two_nstate"]
    """`mjSTATE_INTEGRATION` in float64, two words for each number."""


class MujocoEngine:
    """Steps all robots at once with `mujoco.batch`, called back from the compiled program.

    A control that is not finite makes the robot's state NaN; MuJoCo itself would replace it by zeros.
    """

    runs_on_host = True

    def __init__(self, task: RobotTask, *, num_threads: int = 0):
        """Prepare the model of a task.

        Args:
            task: the task.
            num_threads: number of threads; 0 uses all cores.

        Raises:
            ConfigurationError: if MuJoCo cannot step many robots of this model.
        """
        _disable_log()
        check_readings(task, "mujoco", tuple(KINDS))
        check_randomize(task, "mujoco")
        try:
            mujoco.batch.Batch(task.model, nsim=1, nthread=1)
        except ValueError as error:
            raise ConfigurationError(
                f"engine 'mujoco' cannot run task {type(task).__name__}: {one_line(error)}"
            ) from None
        self.model = task.model
        self.substeps = task.substeps
        self.readings = Readings(task)
        self.body_ids = self.readings.body_ids
        self._num_threads = num_threads
        self._batches: dict[tuple[Any, ...], mujoco.batch.Batch] = {}
        self._model_fields = ModelFields(self.model)
        self._lock = threading.Lock()
        state = int(mujoco.mjtState.mjSTATE_INTEGRATION)
        self._first_row = np.zeros(mujoco.mj_stateSize(self.model, state))
        mujoco.mj_getState(self.model, task.first_data, self._first_row, state)

    def init(self, start: Start) -> RobotState:
        """Return the state of all robots at the start of an episode."""
        num_envs = start.qpos.shape[0]
        rows = jnp.broadcast_to(self._first_row.view(np.uint32), (num_envs, 2 * self._first_row.size))
        everywhere = jnp.ones(num_envs, bool)
        return self._place(rows, start, everywhere, self._model_fields.complete(start.model_fields, everywhere))

    def restart(self, state: RobotState, start: Start, where: Bool[Array, " num_envs"]) -> RobotState:
        """Reset the robots selected by `where` to their starts and leave the others unchanged."""
        fields = self._model_fields.complete(start.model_fields, where)
        if fields is not None:
            fields = where_envs(where, fields, state.model_fields)
        fresh = self._place(state.engine.bits, start, where, fields)
        # Of the others the host returns these as they were, but nothing that it would have to compute again.
        known = {name: getattr(fresh, name) for name in ("qpos", "qvel", "engine", "model_fields")}
        names = [field.name for field in dataclasses.fields(RobotState) if field.name not in known]
        merged = {name: where_envs(where, getattr(fresh, name), getattr(state, name)) for name in names}
        return RobotState(**known, **merged)

    def step(self, state: RobotState, control: Float[Array, "num_envs nu"] | Command) -> RobotState:
        """Advance every robot by one control step."""
        command = control if isinstance(control, Command) else Command(control)
        told = {"ctrl": command.control}
        if command.mocap is not None:
            told |= {"mocap_pos": command.mocap.position, "mocap_quat": command.mocap.quaternion}
        if command.force is not None:
            told["xfrc_applied"] = command.force
        return self._call(self._step, command.control, state.model_fields, state.engine.bits, told)

    def _place(self, bits: Array, start: Start, where: Array, fields: Fields | None) -> RobotState:
        control = start.control
        if control is None:
            control = jnp.zeros((*where.shape, self.model.nu))
        given: dict[str, Any] = {"qpos": start.qpos, "qvel": start.qvel, "act": start.act, "ctrl": start.control}
        if start.mocap is not None:
            given |= {"mocap_pos": start.mocap.position, "mocap_quat": start.mocap.quaternion}
        given = {name: part for name, part in given.items() if part is not None}
        return self._call(self._restart, control, fields, bits, given, where)

    def _call(self, function: Any, control: Array, fields: Fields | None, bits: Array, *arguments: Any) -> RobotState:
        """Call a function on the host and return its results as a state."""
        batch = bits.shape[:-1]
        results = {
            name: jax.ShapeDtypeStruct((*batch, *shape), jnp.uint32 if name == "bits" else jnp.float32)
            for name, shape in self._shapes(bits.shape[-1]).items()
        }
        out = jax.pure_callback(function, results, fields, bits, *arguments, vmap_method="broadcast_all")
        position, quaternion, velocity, angular = (jnp.zeros((*batch, 0, size)) for size in (3, 4, 3, 3))
        sites = None
        if len(self.body_ids):
            position, quaternion, angular = out["position"], out["quaternion"], out["spatial"][..., :3]
            # MuJoCo's linear velocities are those at the centre of mass of the kinematic tree that contains the body.
            velocity = out["spatial"][..., 3:] + jnp.cross(angular, position - out["root"])
            (position, quaternion, velocity, angular), sites = self.readings.split(
                (position, quaternion, velocity, angular), out["root"], out.get("axes")
            )
        return RobotState(
            qpos=out["qpos"],
            qvel=out["qvel"],
            control=control,
            position=position,
            quaternion=quaternion,
            velocity=velocity,
            angular_velocity=angular,
            engine=Rows(out["bits"]),
            sites=sites,
            sensors=out.get("sensors"),
            act=out.get("act"),
            tendon_length=out.get("tendon_length"),
            time=out.get("time"),
            mocap=Mocap(out["mocap_pos"], out["mocap_quat"]) if self.model.nmocap else None,
            model_fields=fields,
        )

    def _shapes(self, bits: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of what the host returns for one robot."""
        model, readings = self.model, self.readings
        bodies, asked = len(self.body_ids), readings.quantities
        shapes: dict[str, tuple[int, ...]] = {"bits": (bits,), "qpos": (model.nq,), "qvel": (model.nv,)}
        if bodies:
            shapes |= {"position": (bodies, 3), "quaternion": (bodies, 4), "spatial": (bodies, 6), "root": (bodies, 3)}
        if readings.jacobian:
            shapes["axes"] = (model.nv, 6)
        if readings.sensor_ids.size:
            shapes["sensors"] = (readings.numbers.size,)
        more = {"act": (model.na,), "tendon_length": (model.ntendon,), "time": ()}
        shapes |= {name: shape for name, shape in more.items() if name in asked}
        if model.nmocap:
            shapes |= {"mocap_pos": (model.nmocap, 3), "mocap_quat": (model.nmocap, 4)}
        return shapes

    # Functions on the host. If there are several leading axes (`vmap` over whole environments), they are merged.

    def _step(self, fields: Any, bits: Any, told: Mapping[str, Any]) -> dict[str, np.ndarray]:
        bits, control = np.asarray(bits), np.asarray(told["ctrl"])
        folded = control.reshape(math.prod(control.shape[:-1]), self.model.nu)  # nu may be 0
        with self._lock:
            batch = self._load(bits, fields)
            for name, part in told.items():
                setattr(batch, name, np.asarray(part).reshape(getattr(batch, name).shape))
            stage = mujoco.mjtStage.mjSTAGE_NONE if self._accelerations else self._stage
            batch.step(nstep=self.substeps, stage=int(stage))
            bad = np.flatnonzero(~np.isfinite(folded).all(axis=1))
            if bad.size:
                batch.state[bad] = np.nan
            return self._results(batch, bits.shape[:-1])

    def _restart(self, fields: Any, bits: Any, given: Mapping[str, Any], where: Any) -> dict[str, np.ndarray]:
        bits = np.asarray(bits)
        ids = np.flatnonzero(np.asarray(where).reshape(-1))
        with self._lock:
            batch = self._load(bits, fields)
            batch.state[ids] = self._first_row
            for name, part in given.items():
                field = getattr(batch, name)
                field[ids] = np.asarray(part).reshape(field.shape)[ids]
            if self._stage and not self._accelerations and ids.size:
                batch.forward(ids=ids, stage=int(self._stage))
            return self._results(batch, bits.shape[:-1], ids)

    @property
    def _accelerations(self) -> bool:
        return self.readings.accelerations

    @property
    def _stage(self) -> mujoco.mjtStage:
        """How far derived quantities are computed after a step: not at all, unless the task reads some."""
        readings = self.readings
        reads = len(self.body_ids) or readings.sensor_ids.size or "tendon_length" in readings.quantities
        return mujoco.mjtStage.mjSTAGE_VEL if reads else mujoco.mjtStage.mjSTAGE_NONE

    def _load(self, bits: np.ndarray, fields: Mapping[str, Any] | None) -> mujoco.batch.Batch:
        """Return the MuJoCo batch for this number of robots, set to these states and fields of their models."""
        rows = np.ascontiguousarray(bits).reshape(-1, bits.shape[-1]).view(np.float64)
        key = (len(rows), *(fields or ()))
        if key not in self._batches:
            batch = mujoco.batch.Batch(self.model, nsim=len(rows), nthread=self._num_threads)
            for name in self._bound():
                batch.bind(name)
            self._batches[key] = batch
        batch = self._batches[key]
        for name, part in (fields or {}).items():
            own = batch.expand(name)
            own[...] = np.asarray(part).reshape(own.shape)
        batch.state[:] = rows
        return batch

    def _bound(self) -> tuple[str, ...]:
        """Return the derived fields that are read after a step."""
        readings = self.readings
        fields: tuple[str, ...] = BODY_FIELDS if len(self.body_ids) else ()
        fields += ("cdof",) * readings.jacobian + ("sensordata",) * bool(readings.sensor_ids.size)
        return fields + ("ten_length",) * ("tendon_length" in readings.quantities)

    def _results(
        self, batch: mujoco.batch.Batch, leading: tuple[int, ...], ids: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Return copies of a batch's arrays.

        Args:
            batch: after a call.
            leading: the axes of the arrays before those of one robot.
            ids: robots whose derived fields are asked for; None for all.
        """
        readings, asked = self.readings, self.readings.quantities
        bits = batch.state.view(np.uint32).copy()
        if self._accelerations:
            # Forces of contacts are those of the state after the step. Computing them changes the solver's warm start,
            # which the robot's next step does not get to see.
            finite = np.isfinite(batch.qpos).all(axis=1) & np.isfinite(batch.qvel).all(axis=1)
            wanted = np.flatnonzero(finite) if ids is None else ids[finite[ids]]
            if wanted.size:
                batch.forward(ids=wanted, stage=int(mujoco.mjtStage.mjSTAGE_ACC))
        values: dict[str, np.ndarray] = {"qpos": batch.qpos, "qvel": batch.qvel}
        if len(self.body_ids):
            root = self.model.body_rootid[self.body_ids]
            values |= {"position": batch.xpos[:, self.body_ids], "quaternion": batch.xquat[:, self.body_ids]}
            values |= {"spatial": batch.cvel[:, self.body_ids], "root": batch.subtree_com[:, root]}
        if readings.jacobian:
            values["axes"] = batch.cdof
        if readings.sensor_ids.size:
            values["sensors"] = batch.sensordata[:, readings.numbers]
        fields = {"act": "act", "tendon_length": "ten_length", "time": "time"}
        values |= {name: getattr(batch, field) for name, field in fields.items() if name in asked}
        if self.model.nmocap:
            values |= {name: getattr(batch, name) for name in MOCAP_FIELDS}
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold shows as infinite in the state
            results = {name: value.astype(np.float32) for name, value in values.items()}
        results["bits"] = bits
        return {name: value.reshape(*leading, *value.shape[1:]) for name, value in results.items()}


def _disable_log() -> None:
    """Turn off MuJoCo's warnings on the console and in the file MUJOCO_LOG.TXT, which it writes for states that are not
    finite. They are visible in the state.
    """
    config = mujoco.MjLogConfig.get()
    config.logto_file = config.logto_console = False
    config.set()
