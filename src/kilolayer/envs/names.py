"""Names of the entries of observations, goals and actions, with units, such as `torso z (m)` or `hip_1 angle (rad)`.

Tasks give them as `observation_names`, `goal_names` and `action_names`. Here are the functions that read names from a
MuJoCo model, and the one that asks a task.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, get_args

import mujoco
import numpy as np
from jaxtyping import Float

from kilolayer.envs.interface import Task

Part = Literal["observation", "goal", "action"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)

_METHODS: Final[dict[Part, str]] = {"observation": "observe", "goal": "achieved_goal", "action": "control"}
"""The method of a task that defines the entries of each part."""


def entry_names(task: Task, part: Part) -> tuple[str, ...] | None:
    """Return the names of the entries of an observation, a goal or an action.

    Args:
        task: the task.
        part: which of the three.

    Returns:
        One name for each entry, in order. None if the task gives none, or if a subclass overrides the method that
        defines the entries (`observe`, `achieved_goal`, `control`) without giving names of its own.
    """
    names: Sequence[str] | None = told(task, f"{part}_names", _METHODS[part])
    return None if names is None else tuple(names)


def names_below(task: Task, mixin: type, part: Part) -> tuple[str, ...] | None:
    """Return the names that a task has without a mixin and all that stands before it; for the mixin's own names.

    Args:
        task: the task, derived from the mixin.
        mixin: the class.
        part: which names.
    """
    names: Sequence[str] | None = told(task, f"{part}_names", _METHODS[part], below=mixin)
    return None if names is None else tuple(names)


def told(task: Task, attribute: str, method: str, *, below: type | None = None) -> Any:
    """Return an attribute that tells about a method of a task.

    Args:
        task: the task.
        attribute: such as `action_names`.
        method: such as `control`.
        below: look only at the classes that follow this one in the task's order of classes; None for all.

    Returns:
        The attribute; None if there is none, or if a subclass overrides the method without it.
    """
    if below is None and attribute in vars(task):
        return vars(task)[attribute]
    every = type(task).__mro__
    classes = every if below is None else every[every.index(below) + 1 :]
    of_attribute, of_method = (
        next((number for number, cls in enumerate(classes) if member in vars(cls)), len(classes))
        for member in (attribute, method)
    )
    if of_attribute == len(classes):
        return getattr(task, attribute, None) if below is None else None
    if of_method < of_attribute:
        return None
    return getattr(task if below is None else super(below, task), attribute)


def xyz(name: str, unit: str = "m", axes: str = "xyz") -> tuple[str, ...]:
    """Return the names of a vector's components, such as `cube x (m)`."""
    return tuple(f"{name} {axis} ({unit})" for axis in axes)


def position_names(model: mujoco.MjModel) -> tuple[str, ...]:
    """Return the names of a model's joint positions, in the order of `qpos`."""
    names: list[str] = []
    for number in range(model.njnt):
        name, body = _joint(model, number), _body_of_joint(model, number)
        match mujoco.mjtJoint(model.jnt_type[number]):
            case mujoco.mjtJoint.mjJNT_FREE:
                names += [*xyz(body), *(f"{body} quaternion {axis}" for axis in "wxyz")]
            case mujoco.mjtJoint.mjJNT_BALL:
                names += [f"{name} quaternion {axis}" for axis in "wxyz"]
            case mujoco.mjtJoint.mjJNT_SLIDE:
                names.append(f"{name} position (m)")
            case _:
                names.append(f"{name} angle (rad)")
    return tuple(names)


def velocity_names(model: mujoco.MjModel) -> tuple[str, ...]:
    """Return the names of a model's joint velocities, in the order of `qvel`."""
    names = []
    for name, axis, linear in _degrees_of_freedom(model):
        if not axis:
            names.append(f"{name} velocity ({'m/s' if linear else 'rad/s'})")
        elif linear:
            names.append(f"{name} velocity {axis} (m/s)")
        else:
            names.append(f"{name} angular velocity {axis} in body axes (rad/s)")
    return tuple(names)


def force_names(model: mujoco.MjModel, *, unit: str = "") -> tuple[str, ...]:
    """Return the names of forces and torques on a model's degrees of freedom, in the order of `qvel`.

    Args:
        model: the model.
        unit: of all of them, if they are scaled; empty for N and N m.
    """
    names = []
    for name, axis, linear in _degrees_of_freedom(model):
        kind = f"{'force' if linear else 'torque'}{f' {axis}' if axis else ''}"
        names.append(f"{name} {kind} ({unit or ('N' if linear else 'N m')})")
    return tuple(names)


def actuator_names(model: mujoco.MjModel, ctrlrange: Float[np.ndarray, "actuators 2"] | None = None) -> tuple[str, ...]:
    """Return the names of a model's actuators, with what an action from -1 to 1 commands.

    For example `hip_4 torque (-15 to 15 N m)` for a motor, or `joint1 target (0.35 to 2.79 rad)` for a position servo.

    Args:
        model: the model.
        ctrlrange: controls at an action of -1 and of 1; None for the model's, or -1 and 1 if an actuator has no limits.
    """
    if ctrlrange is None:
        limited = np.asarray(model.actuator_ctrllimited, bool)[:, None]
        ctrlrange = np.where(limited, model.actuator_ctrlrange, (-1.0, 1.0))
    return tuple(_actuator(model, number, *ctrlrange[number]) for number in range(model.nu))


def actuators_of_dofs(model: mujoco.MjModel, dofs: Sequence[int]) -> tuple[str, ...]:
    """Return the names of the actuators that drive the joints of some degrees of freedom.

    Args:
        model: the model.
        dofs: indices into `qvel`.
    """
    joints = {int(model.dof_jntid[dof]) for dof in dofs}
    at_joint = model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT
    return tuple(
        model.actuator(number).name or f"actuator {number}"
        for number in range(model.nu)
        if at_joint[number] and int(model.actuator_trnid[number, 0]) in joints
    )


def _actuator(model: mujoco.MjModel, number: int, low: float, high: float) -> str:
    target = int(model.actuator_trnid[number, 0])
    at_joint = model.actuator_trntype[number] == mujoco.mjtTrn.mjTRN_JOINT
    name = model.actuator(number).name or (_joint(model, target) if at_joint else f"actuator {number}")
    simple = (
        at_joint
        and model.actuator_dyntype[number] == mujoco.mjtDyn.mjDYN_NONE
        and model.actuator_gaintype[number] == mujoco.mjtGain.mjGAIN_FIXED
    )
    joint = mujoco.mjtJoint(model.jnt_type[target]) if simple else None
    if joint not in (mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE):
        return f"{name} control ({low:.4g} to {high:.4g})"
    linear, gear = joint == mujoco.mjtJoint.mjJNT_SLIDE, model.actuator_gear[number, 0]
    bias, gain = model.actuator_biasprm[number], model.actuator_gainprm[number, 0]
    if model.actuator_biastype[number] == mujoco.mjtBias.mjBIAS_NONE:
        kind, unit, factor = ("force", "N", gain * gear) if linear else ("torque", "N m", gain * gear)
    elif bias[1] != 0.0:  # a position servo rests where gain * control equals -bias[1] * length, length = gear * angle
        kind, unit, factor = "target", "m" if linear else "rad", gain / (-bias[1] * gear)
    else:
        kind, unit, factor = "control", "", 1.0
    return f"{name} {kind} ({factor * low:.4g} to {factor * high:.4g}{f' {unit}' if unit else ''})"


def _degrees_of_freedom(model: mujoco.MjModel) -> list[tuple[str, str, bool]]:
    """Return name, axis (empty for a hinge or slide) and whether it is linear, in the order of `qvel`."""
    found: list[tuple[str, str, bool]] = []
    for number in range(model.njnt):
        name, kind = _joint(model, number), mujoco.mjtJoint(model.jnt_type[number])
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            body = _body_of_joint(model, number)
            found += [(body, axis, True) for axis in "xyz"] + [(body, axis, False) for axis in "xyz"]
        elif kind == mujoco.mjtJoint.mjJNT_BALL:
            found += [(name, axis, False) for axis in "xyz"]
        else:
            found.append((name, "", kind == mujoco.mjtJoint.mjJNT_SLIDE))
    return found


def _joint(model: mujoco.MjModel, number: int) -> str:
    return model.joint(number).name or f"joint {number}"


def _body_of_joint(model: mujoco.MjModel, number: int) -> str:
    body = int(model.jnt_bodyid[number])
    return model.body(body).name or f"body {body}"
