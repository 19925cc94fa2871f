"""Ghosts: the bodies of a robot in the poses that a goal asks of them."""

import dataclasses
from collections.abc import Sequence

import mujoco
import numpy as np
from jaxtyping import Float, Int

from kilolayer.envs.drawing import Ghost, Pose
from kilolayer.errors import ConfigurationError, nearest_names


@dataclasses.dataclass(frozen=True)
class Placed:
    """Bodies of a model and their poses in each frame; one frame where they do not move."""

    bodies: Int[np.ndarray, " bodies"]
    """Numbers of the bodies."""
    position: Float[np.ndarray, "frames bodies 3"]
    """Origins of their frames, in metres."""
    quaternion: Float[np.ndarray, "frames bodies 4"]
    """Orientations: w, x, y, z."""

    def at(self, frame: int) -> "Placed":
        """Return one frame."""
        frame = min(frame, len(self.position) - 1)
        return Placed(self.bodies, self.position[frame][None], self.quaternion[frame][None])


def place_ghosts(model: mujoco.MjModel, ghosts: Sequence[Ghost], start: Float[np.ndarray, " nq"]) -> Placed:
    """Return where the bodies of ghosts are.

    Args:
        model: the model that is drawn.
        ghosts: one for each frame, all of the same bodies.
        start: joint positions at the start of the episode.

    Raises:
        ConfigurationError: if a ghost does not fit the model.
    """
    data = mujoco.MjData(model)
    placed = [_place(model, data, ghost, start) for ghost in ghosts]
    bodies = list(placed[0])
    if any(list(one) != bodies for one in placed):
        raise ConfigurationError("a ghost shows other bodies than the one before; it must be the same in every step")
    position = np.array([[one[body][0] for body in bodies] for one in placed]).reshape(len(placed), -1, 3)
    quaternion = np.array([[one[body][1] for body in bodies] for one in placed]).reshape(len(placed), -1, 4)
    return Placed(np.array(bodies, int), position, quaternion)


def _place(model: mujoco.MjModel, data: mujoco.MjData, ghost: Ghost, start: np.ndarray) -> dict[int, Pose]:
    """Return the poses of the bodies of one ghost."""
    found: dict[int, Pose] = {}
    if ghost.qpos is not None:
        qpos = np.asarray(ghost.qpos, np.float64)
        if qpos.shape != (model.nq,):
            raise ConfigurationError(f"ghost has qpos of shape {qpos.shape}; the drawn model takes ({model.nq},)")
        _kinematics(model, data, np.where(np.isnan(qpos), start, qpos))
        shown = [_body(model, name) for name in ghost.bodies] or np.flatnonzero(model.body_weldid != 0).tolist()
        found |= {body: (data.xpos[body].copy(), data.xquat[body].copy()) for body in shown}
    if ghost.poses:
        _kinematics(model, data, start)
    for name, (position, quaternion) in ghost.poses.items():
        top = _body(model, name)
        unit = np.asarray(quaternion, np.float64) / np.linalg.norm(quaternion)
        for body in _below(model, top):
            at, turn = _relative(data, top, body)
            found[body] = compose(np.asarray(position, np.float64), unit, at, turn)
    return dict(sorted(found.items()))


def _kinematics(model: mujoco.MjModel, data: mujoco.MjData, qpos: np.ndarray) -> None:
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)


def _body(model: mujoco.MjModel, name: str) -> int:
    names = [model.body(number).name for number in range(model.nbody)]
    if name not in names:
        raise ConfigurationError(f"ghost names the body {name!r}, which is not drawn; {nearest_names(name, names)}")
    return names.index(name)


def _below(model: mujoco.MjModel, top: int) -> list[int]:
    """Return a body and everything that hangs on it."""
    found = {top}
    for body in range(top + 1, model.nbody):
        if int(model.body_parentid[body]) in found:
            found.add(body)
    return sorted(found)


def _relative(data: mujoco.MjData, top: int, body: int) -> Pose:
    """Return the pose of a body in the frame of another."""
    inverse, at, turn = np.zeros(4), np.zeros(3), np.zeros(4)
    mujoco.mju_negQuat(inverse, data.xquat[top])
    mujoco.mju_rotVecQuat(at, data.xpos[body] - data.xpos[top], inverse)
    mujoco.mju_mulQuat(turn, inverse, data.xquat[body])
    return at, turn


def compose(
    position: np.ndarray, quaternion: np.ndarray, local_position: np.ndarray, local_quaternion: np.ndarray
) -> Pose:
    """Return a pose in a body's frame as a pose in the world."""
    at, turn = np.zeros(3), np.zeros(4)
    mujoco.mju_rotVecQuat(at, local_position, quaternion)
    mujoco.mju_mulQuat(turn, quaternion, local_quaternion)
    return position + at, turn
