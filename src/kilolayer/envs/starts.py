"""Starts from a model: what a keyframe holds, and what is left of it when the robot has settled."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from kilolayer.envs.robot_state import Mocap, Start
from kilolayer.errors import ConfigurationError, nearest_names


def keyframe_number(model: mujoco.MjModel, name: str | None, owner: str) -> int | None:
    """Return the number of a keyframe: the first for None, or None if the model has none.

    Args:
        model: the model.
        name: of the keyframe.
        owner: name of the task, for the error line.

    Raises:
        ConfigurationError: if no keyframe has this name; the message lists similar names.
    """
    if name is None:
        return 0 if model.nkey else None
    known = [model.key(number).name for number in range(model.nkey)]
    if name not in known:
        listing = f"there are {len(known)}"
        raise ConfigurationError(
            f"task {owner} names the keyframe {name!r}, which its model does not have; "
            f"{nearest_names(name, known, listing=listing)}"
        )
    return known.index(name)


def data_at(model: mujoco.MjModel, keyframe: int | None) -> mujoco.MjData:
    """Return MuJoCo's state at a keyframe, or the default for None, at time 0."""
    data = mujoco.MjData(model)
    if keyframe is not None:
        mujoco.mj_resetDataKeyframe(model, data, keyframe)
        data.time = 0.0
    return data


def start_of(data: mujoco.MjData) -> Start:
    """Return everything of a state that a start holds; what the model lacks is None, and so are controls of zeros."""
    with jax.ensure_compile_time_eval():
        qpos, qvel, act, control, position, quaternion = (
            jnp.asarray(np.array(part), jnp.float32)
            for part in (data.qpos, data.qvel, data.act, data.ctrl, data.mocap_pos, data.mocap_quat)
        )
    return Start(
        qpos=qpos,
        qvel=qvel,
        act=act if act.size else None,
        control=control if np.any(data.ctrl) else None,
        mocap=Mocap(position, quaternion) if position.size else None,
    )


def settle(model: mujoco.MjModel, data: mujoco.MjData, seconds: float, owner: str) -> None:
    """Let physics run under the state's own controls, for as many steps as fit.

    Args:
        model: the model.
        data: moved in place; its time is 0 again at the end.
        seconds: for how long.
        owner: name of the task, for the error line.

    Raises:
        ConfigurationError: if the robot diverges.
    """
    mujoco.mj_step(model, data, max(1, round(seconds / model.opt.timestep)))
    data.time = 0.0
    if not (np.isfinite(data.qpos).all() and np.isfinite(data.qvel).all()):
        raise ConfigurationError(
            f"task {owner}: settle={seconds:g} s ends in numbers that are not finite; the robot diverges at its "
            "keyframe; try a smaller time step of the model"
        )
