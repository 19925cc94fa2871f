"""Position servos of a model: which actuators are some, what holds a pose, and what actions tell them by default."""

import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float, Int


def position_servos(model: mujoco.MjModel) -> Bool[np.ndarray, " nu"]:
    """Return which actuators are position servos: they pull towards their control."""
    return (model.actuator_biastype == mujoco.mjtBias.mjBIAS_AFFINE) & (model.actuator_biasprm[:, 1] != 0.0)


def joint_servos(model: mujoco.MjModel) -> Int[np.ndarray, " servos"]:
    """Return the position servos that turn or slide one joint each, by their place among the actuators."""
    joint = np.where(model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT, model.actuator_trnid[:, 0], -1)
    kinds = np.append(model.jnt_type, -1)[joint]
    single = (kinds == mujoco.mjtJoint.mjJNT_HINGE) | (kinds == mujoco.mjtJoint.mjJNT_SLIDE)
    driven = (model.actuator_gainprm[:, 0] != 0.0) & (model.actuator_gear[:, 0] != 0.0)
    return np.flatnonzero(position_servos(model) & single & driven).astype(np.int32)


def control_per_length(model: mujoco.MjModel) -> Float[np.ndarray, " nu"]:
    """Return by how much a servo's control changes when the length at which it rests changes by 1; 0 for others."""
    gain = model.actuator_gainprm[:, 0]
    servo = position_servos(model) & (gain != 0.0)
    return np.where(servo, -model.actuator_biasprm[:, 1] / np.where(servo, gain, 1.0), 0.0)


def control_per_joint(model: mujoco.MjModel, servos: Int[np.ndarray, " servos"]) -> Float[np.ndarray, " servos"]:
    """Return by how much the control of each joint servo changes when its joint is to move by 1 rad or 1 m."""
    return (control_per_length(model) * model.actuator_gear[:, 0])[servos].astype(np.float32)


def holding(
    model: mujoco.MjModel, servos: Int[np.ndarray, " servos"], qpos: Float[Array, "*num_envs nq"]
) -> Float[Array, "*num_envs servos"]:
    """Return the controls of joint servos that hold a pose, without gravity.

    Args:
        model: the model.
        servos: as `joint_servos` returns them.
        qpos: joint positions, in metres and radians.
    """
    place = model.jnt_qposadr[model.actuator_trnid[servos, 0]]
    offset = -(model.actuator_biasprm[servos, 0] / model.actuator_gainprm[servos, 0]).astype(np.float32)
    return jnp.asarray(offset) + jnp.asarray(control_per_joint(model, servos)) * qpos[..., place]


def rest_control(model: mujoco.MjModel, data: mujoco.MjData) -> Float[np.ndarray, " nu"]:
    """Return the controls of a keyframe; where it has none at all, those by which servos hold its pose.

    Args:
        model: the model.
        data: at the keyframe.
    """
    if np.any(data.ctrl):
        return data.ctrl.copy()
    moved = mujoco.MjData(model)
    moved.qpos[:] = data.qpos
    mujoco.mj_fwdPosition(model, moved)
    gain = model.actuator_gainprm[:, 0]
    servo = position_servos(model) & (gain != 0.0)
    offset = np.where(servo, -model.actuator_biasprm[:, 0] / np.where(servo, gain, 1.0), 0.0)
    return offset + control_per_length(model) * moved.actuator_length


def control_limits(model: mujoco.MjModel) -> Float[np.ndarray, "2 nu"]:
    """Return the least and the greatest control of each actuator; -infinity and infinity where it has no range."""
    limited = np.asarray(model.actuator_ctrllimited, bool)[:, None]
    return np.where(limited, model.actuator_ctrlrange, (-np.inf, np.inf)).T


def action_ends(
    model: mujoco.MjModel, rest: Float[np.ndarray, " nu"] | None, share: float | None
) -> Float[np.ndarray, "2 nu"]:
    """Return the controls of each actuator at an action of -1 and of 1, before they are clipped to its range.

    Args:
        model: the model.
        rest: controls around which position servos with a range move; None for the middle of their ranges.
        share: by how much, as a share of half their range; None for the whole range.
    """
    limited = np.asarray(model.actuator_ctrllimited, bool)
    low, high = np.where(limited[:, None], model.actuator_ctrlrange, (-1.0, 1.0)).T
    if rest is None or share is None:
        return np.stack([low, high])
    around = position_servos(model) & limited
    half = 0.5 * (high - low)
    return np.stack([np.where(around, rest - share * half, low), np.where(around, rest + share * half, high)])
