"""Robots whose simulation diverges: how it is noticed, and which joints and actuators to look at."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float

from kilolayer.envs.interface import Physics, Task
from kilolayer.envs.names import actuators_of_dofs, velocity_names
from kilolayer.envs.robot_task import RobotState, RobotTask

LARGEST = mujoco.mjMAXVAL
"""Positions and velocities beyond it count as diverged: MuJoCo's own limit, 1e10."""

MOST_DIVERGED = 0.1
"""Share of episodes in which a robot may diverge, by default: above it, training ends and a check fails."""

NAMED = 3
"""Joints that a line names at most."""


def has_diverged(physics: Physics) -> Bool[Array, " num_envs"]:
    """Return which robots have a state that is not finite.

    Args:
        physics: of all robots. Of a `RobotState`, joint positions and velocities count, up to `LARGEST`; of any other
            state, all floating-point numbers.
    """
    if isinstance(physics, RobotState):
        return ~jnp.all(jnp.abs(jnp.concatenate([physics.qpos, physics.qvel], axis=-1)) <= LARGEST, axis=-1)
    leaves = [leaf for leaf in jax.tree.leaves(physics) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    finite = [jnp.all(jnp.isfinite(leaf), axis=tuple(range(1, leaf.ndim))) for leaf in leaves]
    return ~jnp.all(jnp.stack(finite), axis=0) if finite else jnp.zeros(_num_envs(physics), bool)


class Divergence(eqx.Module):
    """How many robots diverged in a number of steps, and how fast their joints were before."""

    robots: Array
    """How many."""
    speed: Float[Array, " nv"]
    """Largest absolute velocity of each degree of freedom in the last finite state of such a robot; empty if the
    engine's state is no `RobotState`."""

    @classmethod
    def of_step(cls, diverged: Bool[Array, " num_envs"], before: Physics) -> "Divergence":
        """Return what happened in a step, given the state before it."""
        speed = jnp.zeros(0)
        if isinstance(before, RobotState):
            speed = jnp.max(jnp.where(diverged[:, None], jnp.abs(before.qvel), 0.0), axis=0)
        return cls(jnp.sum(diverged, dtype=jnp.int32), speed)

    @classmethod
    def of_steps(cls, steps: "Divergence") -> "Divergence":
        """Return what happened in several steps, stacked on a leading axis."""
        return cls(jnp.sum(steps.robots), jnp.max(steps.speed, axis=0, initial=0.0))


def suspects(task: Task, speed: Float[np.ndarray, " nv"]) -> str:
    """Return in words which joints were the fastest before a robot diverged, and the actuators that move them.

    Args:
        task: the task.
        speed: see `Divergence`; empty returns no text.
    """
    if not isinstance(task, RobotTask) or not len(speed):
        return ""
    model: Any = task.model
    names = velocity_names(model)
    fastest = [dof for dof in np.argsort(-np.asarray(speed), kind="stable")[:NAMED].tolist() if speed[dof] > 0.0]
    if not fastest:
        return "; all joints were at rest before"
    joints = ", ".join(f"{names[dof]} {speed[dof]:.3g}" for dof in fastest)
    actuators = actuators_of_dofs(model, fastest)
    return f"; fastest before: {joints}" + (f"; actuators there: {', '.join(actuators)}" if actuators else "")


def _num_envs(physics: Physics) -> int:
    return jax.tree.leaves(physics)[0].shape[0]
