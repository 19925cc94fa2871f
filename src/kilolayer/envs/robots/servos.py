"""Position servos for models that come without actuators, as those that are made from URDF do."""

import math
from collections.abc import Collection, Mapping

import mujoco
import numpy as np

from kilolayer.envs.robots.mjcf import one_line
from kilolayer.errors import ConfigurationError, nearest_names

FULL_TURN = (-math.pi, math.pi)
"""Targets of a hinge without a range, in radians."""


def add_servos(
    spec: mujoco.MjSpec,
    *,
    kp: float | Mapping[str, float],
    damping_ratio: float = 1.0,
    joints: Collection[str] | None = None,
) -> mujoco.MjSpec:
    """Add a position servo to every hinge and slide joint that nothing drives yet and that follows no other joint.

    A servo takes a target in the range of its joint; a hinge without a range turns from -pi to pi. The keyframes of the
    model are kept, with targets that hold their poses. Joints without a name get one.

    Args:
        spec: the model, edited in place.
        kp: stiffness in N m per radian, or N per metre; one number, or one for each joint by name.
        damping_ratio: of each servo with the joint's inertia at the default pose: 1 is critically damped.
        joints: names of the joints that get a servo; None for all those. Leave out joints that should swing
            freely, and those by which a base moves.

    Returns:
        The same specification.

    Raises:
        ConfigurationError: if the model does not compile, a joint is unknown, has an actuator already or no range, or
            a number is not above 0.
    """
    _name_joints(spec)
    model = _compiled(spec)
    chosen = _chosen(model, joints)
    stiffness = {name: kp[name] if isinstance(kp, Mapping) and name in kp else kp for name in chosen}
    missing = [name for name, value in stiffness.items() if isinstance(value, Mapping)]
    if missing:
        raise ConfigurationError(f"kp has no number for joint {', '.join(missing)}")
    for what, value in (*stiffness.items(), ("damping_ratio", damping_ratio)):
        if not (isinstance(value, int | float) and 0.0 < value < math.inf):
            where = "" if what == "damping_ratio" else f" for joint {what}"
            raise ConfigurationError(f"{'kp' if where else what}={value!r}{where} must be a number above 0")
    ranges = {name: _range(model, name) for name in chosen}
    for name in chosen:
        actuator = spec.add_actuator(name=_free_name(spec, name), target=name)
        actuator.trntype = mujoco.mjtTrn.mjTRN_JOINT
        actuator.set_to_position(kp=stiffness[name], dampratio=damping_ratio)
        actuator.ctrllimited, actuator.ctrlrange = mujoco.mjtLimited.mjLIMITED_TRUE, ranges[name]
    for number, key in enumerate(spec.keys):
        at = [model.key_qpos[number, model.joint(name).qposadr[0]] for name in chosen]
        held = [float(np.clip(angle, *ranges[name])) for name, angle in zip(chosen, at, strict=True)]
        key.ctrl = [*model.key_ctrl[number].tolist(), *held]
    return spec


def _name_joints(spec: mujoco.MjSpec) -> None:
    taken = {joint.name for joint in spec.joints}
    for number, joint in enumerate(spec.joints):
        if not joint.name:
            joint.name = next(
                name for tries in range(len(taken) + 1) if (name := f"joint_{number + tries}") not in taken
            )
            taken.add(joint.name)


def _compiled(spec: mujoco.MjSpec) -> mujoco.MjModel:
    try:
        return spec.copy().compile()
    except (ValueError, mujoco.FatalError) as error:
        raise ConfigurationError(f"the model to get servos does not compile: {one_line(error)}") from None


def _chosen(model: mujoco.MjModel, joints: Collection[str] | None) -> list[str]:
    """Return the joints that get a servo, in the model's order."""
    kinds = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
    names = {model.joint(number).name: number for number in range(model.njnt) if _kind(model, number) in kinds}
    driven = _driven(model)
    if joints is None:
        free = [name for name, number in names.items() if number not in driven | _following(model)]
        if not free:
            raise ConfigurationError("add_servos finds no hinge or slide joint without an actuator")
        return free
    for name in joints:
        if name not in names:
            there = nearest_names(name, names, listing=f"there are {len(names)}") if names else "there are none"
            raise ConfigurationError(f"joints names {name!r}, which is no hinge or slide joint of the model; {there}")
        if names[name] in driven:
            raise ConfigurationError(f"joint {name!r} has an actuator already; leave it out of joints")
    return [name for name in names if name in joints]


def _kind(model: mujoco.MjModel, joint: int) -> mujoco.mjtJoint:
    return mujoco.mjtJoint(model.jnt_type[joint])


def _driven(model: mujoco.MjModel) -> set[int]:
    """Return the joints that an actuator drives, by itself or by a fixed tendon."""
    found: set[int] = set()
    for number, target in zip(model.actuator_trntype.tolist(), model.actuator_trnid[:, 0].tolist(), strict=True):
        kind = mujoco.mjtTrn(number)
        if kind in (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT):
            found.add(target)
        elif kind == mujoco.mjtTrn.mjTRN_TENDON:
            begin = model.tendon_adr[target]
            for wrap in range(begin, begin + model.tendon_num[target]):
                if mujoco.mjtWrap(model.wrap_type[wrap]) == mujoco.mjtWrap.mjWRAP_JOINT:
                    found.add(int(model.wrap_objid[wrap]))
    return found


def _following(model: mujoco.MjModel) -> set[int]:
    """Return the joints that an equality ties to another, as `mimic` of a URDF does."""
    return {
        int(model.eq_obj1id[number])
        for number in range(model.neq)
        if mujoco.mjtEq(model.eq_type[number]) == mujoco.mjtEq.mjEQ_JOINT and model.eq_obj2id[number] >= 0
    }


def _range(model: mujoco.MjModel, name: str) -> tuple[float, float]:
    """Return the targets that a servo of a joint takes, in radians or metres."""
    joint = model.joint(name).id
    if model.jnt_limited[joint]:
        low, high = model.jnt_range[joint]
        return float(low), float(high)
    if _kind(model, joint) == mujoco.mjtJoint.mjJNT_HINGE:
        return FULL_TURN
    raise ConfigurationError(f"slide joint {name!r} has no range for a servo; give it one, or name others in joints")


def _free_name(spec: mujoco.MjSpec, name: str) -> str:
    """Return the name of a joint's servo: that of the joint, unless another actuator has it."""
    taken = {actuator.name for actuator in spec.actuators}
    while name in taken:
        name = f"{name}_servo"
    return name
