"""Poses that a robot can take: drawn within the ranges of its joints, free of collision, kept on the disk."""

import dataclasses
import hashlib
import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.compilation_cache import kept_directory
from kilolayer.envs.methods import first_memory, in_full
from kilolayer.envs.robot_state import Frames, Mocap, RobotState
from kilolayer.errors import ConfigurationError

TRIES = 100
"""Poses that are drawn at most for each one that is asked for."""

DEEPER = 1e-3
"""Two bodies may touch as deep as they do at home, and this much deeper, in metres."""

BROKEN = 1e-3
"""By how much a pose may violate an equality constraint, in metres or radians."""

METHOD = 1
"""Counts changes of how poses are drawn; kept poses of another number are drawn again."""


class Reachable(NamedTuple):
    """Goals that a robot can reach, and how."""

    goal: Float[np.ndarray, "number goal"]
    """Goals, as the task reads them of a robot at rest in these poses."""
    qpos: Float[np.ndarray, "number nq"]
    """Poses: joint positions in MuJoCo's order."""


def reachable(task: Any, number: int, key: PRNGKeyArray | int = 0) -> Reachable:
    """Draw poses of a robot, and return the goals that they achieve.

    Joints with a range are uniform in it; hinges and ball joints without one are uniform over all angles. Slides
    without a range and free joints, such as those of objects, stay where the task's keyframe has them. Joints that
    equality constraints couple follow. A pose is kept if no bodies are deeper in each other than they are at home, and
    if it satisfies all equality constraints.

    Poses are kept in the user's cache directory, under the digest of the model.

    Args:
        task: a task for robots.
        number: how many.
        key: a key, or a seed.

    Raises:
        ConfigurationError: if hardly any pose is free of collision.
    """
    words = np.asarray(jax.random.key_data(key)).ravel().tolist() if isinstance(key, jax.Array) else [int(key)]
    qpos = _poses(task, number, words)
    with jax.ensure_compile_time_eval():
        states = still_states(task, qpos)
        achieved = in_full("achieved_goal", task.achieved_goal)

        def read(state: RobotState) -> Array:
            return achieved(state, first_memory(getattr(task, "memory", None), state, jax.random.key(0)))

        goal = np.asarray(jax.vmap(read)(states))
    return Reachable(goal, qpos)


def still_states(task: Any, qpos: Float[np.ndarray, "number nq"]) -> RobotState:
    """Return the states of robots at rest in these poses, by MuJoCo's forward kinematics."""
    model, home = task.model, task.first_data
    data = mujoco.MjData(model)
    zero = task._zero_state()
    bodies = [model.body(name).id for name in task.tracked_bodies]
    sites = [model.site(name).id for name in task.tracked_sites]
    numbers = np.concatenate([np.zeros(0, np.int32), *(_numbers(model, name) for name in task.tracked_sensors)])
    rows: dict[str, list[np.ndarray]] = {}
    for pose in qpos:
        _rest(model, data, home, pose)
        mujoco.mj_forward(model, data)
        turned = np.zeros((len(sites), 4))
        for place, site in enumerate(sites):
            mujoco.mju_mat2Quat(turned[place], data.site_xmat[site])
        row = {
            "position": data.xpos[bodies],
            "quaternion": data.xquat[bodies],
            "site_position": data.site_xpos[sites],
            "site_quaternion": turned,
            "sensors": data.sensordata[numbers],
            "tendon_length": data.ten_length,
        }
        for name, value in row.items():
            rows.setdefault(name, []).append(value.copy())
    found = {name: jnp.asarray(np.stack(values), jnp.float32) for name, values in rows.items()}
    many = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(qpos), *leaf.shape)), zero)
    frames = many.sites
    if frames is not None:
        frames = Frames(
            found["site_position"], found["site_quaternion"], frames.velocity, frames.angular_velocity, frames.jacobian
        )
    mocap = many.mocap
    if mocap is not None:
        shape = (len(qpos), 1, 1)
        mocap = Mocap(jnp.tile(jnp.asarray(home.mocap_pos, jnp.float32), shape), jnp.tile(home.mocap_quat, shape))
    return dataclasses.replace(
        many,
        qpos=jnp.asarray(qpos, jnp.float32),
        position=found["position"],
        quaternion=found["quaternion"],
        sites=frames,
        sensors=None if many.sensors is None else found["sensors"],
        tendon_length=None if many.tendon_length is None else found["tendon_length"],
        mocap=mocap,
    )


def _numbers(model: Any, sensor: str) -> np.ndarray:
    """Return where the numbers of a sensor are among those of all sensors."""
    first = int(model.sensor(sensor).adr[0])
    return np.arange(first, first + int(model.sensor(sensor).dim[0]), dtype=np.int32)


def _rest(model: Any, data: Any, home: Any, pose: np.ndarray) -> None:
    """Put a robot at rest into a pose; all else is as at home."""
    mujoco.mj_resetData(model, data)
    data.qpos[:] = pose
    data.mocap_pos[:], data.mocap_quat[:] = home.mocap_pos, home.mocap_quat
    data.eq_active[:] = home.eq_active


# Drawing


def _poses(task: Any, number: int, words: list[int]) -> Float[np.ndarray, "number nq"]:
    """Return poses: those that are kept on the disk, or new ones."""
    key = _digest(task.model, task.first_data.qpos, number, words)
    kept = _read(key, (number, int(task.model.nq)))
    if kept is not None:
        return kept
    drawn = _draw(task, number, np.random.default_rng(words))
    _keep(key, drawn)
    return drawn


def _draw(task: Any, number: int, rng: np.random.Generator) -> Float[np.ndarray, "number nq"]:
    model, home = task.model, task.first_data
    data = mujoco.MjData(model)
    _rest(model, data, home, home.qpos)
    mujoco.mj_forward(model, data)
    allowed = _depths(model, data)
    found: list[np.ndarray] = []
    tries = 0
    while len(found) < number:
        if tries == TRIES * number:
            raise ConfigurationError(
                f"task {type(task).__name__}: only {len(found)} of {tries} poses that were drawn within the ranges of "
                f"the joints are free of collision and satisfy the equality constraints, but {number} goals are asked "
                "for; define `draw_goal`, or give the joints narrower ranges"
            )
        tries += 1
        _rest(model, data, home, _random_pose(model, home.qpos, rng))
        mujoco.mj_forward(model, data)
        if _is_free(model, data, allowed) and _is_whole(data):
            found.append(data.qpos.copy())
    return np.stack(found)


def _random_pose(model: Any, home: np.ndarray, rng: np.random.Generator) -> Float[np.ndarray, " nq"]:
    """Draw the positions of all joints."""
    qpos = home.copy()
    for number in range(model.njnt):
        place, limited = int(model.jnt_qposadr[number]), bool(model.jnt_limited[number])
        low, high = model.jnt_range[number]
        match mujoco.mjtJoint(model.jnt_type[number]):
            case mujoco.mjtJoint.mjJNT_HINGE:
                qpos[place] = rng.uniform(low, high) if limited else rng.uniform(-np.pi, np.pi)
            case mujoco.mjtJoint.mjJNT_SLIDE if limited:
                qpos[place] = rng.uniform(low, high)
            case mujoco.mjtJoint.mjJNT_BALL:
                qpos[place : place + 4] = _random_rotation(rng, high if limited else None)
            case _:
                pass
    for coupling in np.flatnonzero((model.eq_type == mujoco.mjtEq.mjEQ_JOINT) & (model.eq_active0 != 0)):
        follower, leader = int(model.eq_obj1id[coupling]), int(model.eq_obj2id[coupling])
        places = model.jnt_qposadr[[follower, leader]]
        by = qpos[places[1]] - model.qpos0[places[1]] if leader >= 0 else 0.0
        qpos[places[0]] = model.qpos0[places[0]] + np.polynomial.polynomial.polyval(by, model.eq_data[coupling, :5])
    return qpos


def _random_rotation(rng: np.random.Generator, most: float | None) -> Float[np.ndarray, "4"]:
    """Draw a quaternion: uniform over all rotations, or about a uniform axis by up to an angle in radians."""
    drawn = rng.normal(size=4)
    if most is None:
        return drawn / np.linalg.norm(drawn)
    quaternion = np.zeros(4)
    mujoco.mju_axisAngle2Quat(quaternion, drawn[:3] / np.linalg.norm(drawn[:3]), rng.uniform(0.0, most))
    return quaternion


def _depths(model: Any, data: Any) -> dict[tuple[int, int], float]:
    """Return how deep each pair of bodies is in each other, in metres."""
    depths: dict[tuple[int, int], float] = {}
    for contact in data.contact:
        pair = _pair(model, contact)
        depths[pair] = max(depths.get(pair, 0.0), -float(contact.dist))
    return depths


def _pair(model: Any, contact: Any) -> tuple[int, int]:
    first, second = sorted(int(model.geom_bodyid[geom]) for geom in contact.geom)
    return first, second


def _is_free(model: Any, data: Any, allowed: dict[tuple[int, int], float]) -> bool:
    """Return whether no bodies are deeper in each other than they may be."""
    most = {pair: depth + DEEPER for pair, depth in allowed.items()}
    return all(depth <= most.get(pair, 0.0) for pair, depth in _depths(model, data).items())


def _is_whole(data: Any) -> bool:
    """Return whether all equality constraints hold."""
    equalities = data.efc_type == mujoco.mjtConstraint.mjCNSTR_EQUALITY
    return bool(np.all(np.abs(data.efc_pos[equalities]) < BROKEN))


# Poses that are kept


def _digest(model: Any, home: np.ndarray, number: int, words: list[int]) -> str:
    """Return a name for everything that drawn poses depend on."""
    buffer = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    about = f"{METHOD} {mujoco.__version__} {np.__version__} {number} {words}"
    return hashlib.sha256(buffer.tobytes() + home.tobytes() + about.encode()).hexdigest()[:32]


def _file(key: str) -> Path | None:
    directory = kept_directory("poses")
    return None if directory is None else directory / f"{key}.npy"


def _read(key: str, shape: tuple[int, int]) -> Float[np.ndarray, "number nq"] | None:
    """Return kept poses; None if there are none, or they are damaged."""
    file = _file(key)
    try:
        found = np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) if file else None
    except (OSError, ValueError, EOFError):
        return None
    if found is None or found.shape != shape or found.dtype != np.float64 or not np.isfinite(found).all():
        return None
    return np.asarray(found)


def _keep(key: str, poses: Float[np.ndarray, "number nq"]) -> None:
    """Write poses; where that is not possible, the next run draws them again."""
    if (file := _file(key)) is None:
        return
    content = io.BytesIO()
    np.save(content, poses, allow_pickle=False)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(content.getvalue())
        os.replace(partial, file)
