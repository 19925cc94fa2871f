"""MuJoCo's C engine on all cores of the CPU, usable inside `jit` and `scan`.

The JAX state contains the complete physics state of every robot, including the solver's warm start, as a row of float64
numbers. It is stored as uint32 words, because JAX uses float32 by default. A simulation resumed from a state therefore
continues bit for bit.
"""

import threading
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import mujoco.batch
import numpy as np
from jaxtyping import Array, Bool, Float, UInt32

from kilolayer.envs.engines.restart import where_envs
from kilolayer.envs.robot_task import RobotState, RobotTask, Start
from kilolayer.envs.robots.mjcf import one_line
from kilolayer.errors import ConfigurationError

BODY_FIELDS = ("xpos", "xquat", "cvel", "subtree_com")


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
        try:
            mujoco.batch.Batch(task.model, nsim=1, nthread=1)
        except ValueError as error:
            raise ConfigurationError(
                f"engine 'mujoco' cannot run task {type(task).__name__}: {one_line(error)}"
            ) from None
        self.model = task.model
        self.substeps = task.substeps
        self.body_ids = np.array([self.model.body(name).id for name in task.tracked_bodies], np.int32)
        self._num_threads = num_threads
        self._batches: dict[int, mujoco.batch.Batch] = {}
        self._lock = threading.Lock()
        state = int(mujoco.mjtState.mjSTATE_INTEGRATION)
        self._first_row = np.zeros(mujoco.mj_stateSize(self.model, state))
        mujoco.mj_getState(self.model, task.first_data, self._first_row, state)

    def init(self, start: Start) -> RobotState:
        """Return the state of all robots at the start of an episode."""
        num_envs = start.qpos.shape[0]
        rows = jnp.broadcast_to(self._first_row.view(np.uint32), (num_envs, 2 * self._first_row.size))
        return self._place(rows, start, jnp.ones(num_envs, bool))

    def restart(self, state: RobotState, start: Start, where: Bool[Array, " num_envs"]) -> RobotState:
        """Reset the robots selected by `where` to their starts and leave the others unchanged."""
        fresh = self._place(state.engine.bits, start, where)
        fields = ("control", "position", "quaternion", "velocity", "angular_velocity")
        merged = {name: where_envs(where, getattr(fresh, name), getattr(state, name)) for name in fields}
        return RobotState(qpos=fresh.qpos, qvel=fresh.qvel, engine=fresh.engine, **merged)

    def step(self, state: RobotState, control: Float[Array, "num_envs nu"]) -> RobotState:
        """Advance every robot by one control step."""
        return self._call(self._step, control, state.engine.bits, control)

    def _place(self, bits: Array, start: Start, where: Array) -> RobotState:
        control = jnp.zeros((*where.shape, self.model.nu))
        return self._call(self._restart, control, bits, start.qpos, start.qvel, where)

    def _call(self, function: Any, control: Array, bits: Array, *arguments: Array) -> RobotState:
        """Call a function on the host and return its results as a state."""
        batch = bits.shape[:-1]
        bodies = len(self.body_ids)
        shapes = {"bits": bits.shape[-1:], "qpos": (self.model.nq,), "qvel": (self.model.nv,)}
        if bodies:
            shapes |= {"position": (bodies, 3), "quaternion": (bodies, 4), "spatial": (bodies, 6), "root": (bodies, 3)}
        results = {
            name: jax.ShapeDtypeStruct((*batch, *shape), jnp.uint32 if name == "bits" else jnp.float32)
            for name, shape in shapes.items()
        }
        out = jax.pure_callback(function, results, bits, *arguments, vmap_method="broadcast_all")
        position, quaternion, velocity, angular = (jnp.zeros((*batch, 0, size)) for size in (3, 4, 3, 3))
        if bodies:
            position, quaternion, angular = out["position"], out["quaternion"], out["spatial"][..., :3]
            # MuJoCo's linear velocities are those at the centre of mass of the kinematic tree that contains the body.
            velocity = out["spatial"][..., 3:] + jnp.cross(angular, position - out["root"])
        return RobotState(
            qpos=out["qpos"],
            qvel=out["qvel"],
            control=control,
            position=position,
            quaternion=quaternion,
            velocity=velocity,
            angular_velocity=angular,
            engine=Rows(out["bits"]),
        )

    # Functions on the host. If there are several leading axes (`vmap` over whole environments), they are merged.

    def _step(self, bits: Any, control: Any) -> dict[str, np.ndarray]:
        bits, control = np.asarray(bits), np.asarray(control)
        folded = control.reshape(-1, self.model.nu)
        with self._lock:
            batch = self._load(bits)
            batch.ctrl = folded
            stage = mujoco.mjtStage.mjSTAGE_VEL if len(self.body_ids) else mujoco.mjtStage.mjSTAGE_NONE
            batch.step(nstep=self.substeps, stage=int(stage))
            bad = np.flatnonzero(~np.isfinite(folded).all(axis=1))
            if bad.size:
                batch.state[bad] = np.nan
            return self._results(batch, bits.shape[:-1])

    def _restart(self, bits: Any, qpos: Any, qvel: Any, where: Any) -> dict[str, np.ndarray]:
        bits = np.asarray(bits)
        ids = np.flatnonzero(np.asarray(where).reshape(-1))
        with self._lock:
            batch = self._load(bits)
            batch.state[ids] = self._first_row
            batch.qpos[ids] = np.asarray(qpos).reshape(-1, self.model.nq)[ids]
            batch.qvel[ids] = np.asarray(qvel).reshape(-1, self.model.nv)[ids]
            if len(self.body_ids) and ids.size:
                batch.forward(ids=ids, stage=int(mujoco.mjtStage.mjSTAGE_VEL))
            return self._results(batch, bits.shape[:-1])

    def _load(self, bits: np.ndarray) -> mujoco.batch.Batch:
        """Return the MuJoCo batch for this number of robots, set to these states."""
        rows = np.ascontiguousarray(bits).reshape(-1, bits.shape[-1]).view(np.float64)
        if len(rows) not in self._batches:
            batch = mujoco.batch.Batch(self.model, nsim=len(rows), nthread=self._num_threads)
            if len(self.body_ids):
                for name in BODY_FIELDS:
                    batch.bind(name)
            self._batches[len(rows)] = batch
        self._batches[len(rows)].state[:] = rows
        return self._batches[len(rows)]

    def _results(self, batch: mujoco.batch.Batch, leading: tuple[int, ...]) -> dict[str, np.ndarray]:
        """Return copies of a batch's arrays."""
        values: dict[str, np.ndarray] = {"qpos": batch.qpos, "qvel": batch.qvel}
        if len(self.body_ids):
            root = self.model.body_rootid[self.body_ids]
            values |= {"position": batch.xpos[:, self.body_ids], "quaternion": batch.xquat[:, self.body_ids]}
            values |= {"spatial": batch.cvel[:, self.body_ids], "root": batch.subtree_com[:, root]}
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold shows as infinite in the state
            results = {name: value.astype(np.float32) for name, value in values.items()}
        results["bits"] = batch.state.view(np.uint32).copy()
        return {name: value.reshape(*leading, *value.shape[1:]) for name, value in results.items()}


def _disable_log() -> None:
    """Turn off MuJoCo's warnings on the console and in the file MUJOCO_LOG.TXT, which it writes for states that are not
    finite. They are visible in the state.
    """
    config = mujoco.MjLogConfig.get()
    config.logto_file = config.logto_console = False
    config.set()
