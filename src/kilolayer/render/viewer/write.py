"""Interactive 3-D pages: one HTML file with geometry and poses as JSON, the drawing code and its library."""

import base64
import html
import json
import math
import re
from importlib import resources
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from kilolayer.render.camera import CameraMode, default_mode, view
from kilolayer.render.film import describe
from kilolayer.render.scene import Motion, Scene

FPS = 30.0
"""Maximum poses per second in a page; the browser interpolates between them."""
POSE_BYTES = 4_500_000
"""Maximum size of all poses of a page as text; beyond it, fewer poses per second are kept."""
STEPS = 32767
"""Positions and quaternions are rounded to 16-bit numbers from -STEPS to STEPS."""

SHAPES = {
    mujoco.mjtGeom.mjGEOM_SPHERE: "sphere",
    mujoco.mjtGeom.mjGEOM_CAPSULE: "capsule",
    mujoco.mjtGeom.mjGEOM_ELLIPSOID: "ellipsoid",
    mujoco.mjtGeom.mjGEOM_CYLINDER: "cylinder",
    mujoco.mjtGeom.mjGEOM_BOX: "box",
    mujoco.mjtGeom.mjGEOM_MESH: "mesh",
}
HIDDEN_GROUPS = 3
"""Geoms of this group and above are not drawn, as in MuJoCo's viewer: they are for collisions."""


def write_page(scene: Scene, path: Path, *, camera: CameraMode | None = None) -> Path:
    """Write an interactive page. The file appears when it is complete.

    Args:
        scene: the scene.
        path: the file.
        camera: first camera, `follow` or `top`; None for the default of the scene.

    Returns:
        The path.
    """
    # "<" starts a tag even inside a script, so escape it.
    data = json.dumps(_data(scene, camera or default_mode(scene)), separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "style": _file("style.css"),
        "title": html.escape(scene.name),
        "scene": data,
        "three": _file("three/three.min.js"),
        "script": _file("viewer.js"),
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _file("page.html"))
    partial = path.with_suffix(".partial")
    partial.write_text(page, encoding="utf-8")
    return partial.replace(path)


def _file(name: str) -> str:
    return resources.files("kilolayer.render.viewer").joinpath(name).read_text(encoding="utf-8")


def _data(scene: Scene, camera: CameraMode) -> dict[str, Any]:
    model = scene.model
    poses = [np.concatenate(scene.body_poses(motion.qpos), axis=-1) for motion in scene.motions]
    moving = np.flatnonzero(model.body_weldid != 0)
    stride = _stride(scene, len(moving))
    kept = [each[::stride][:, moving] for each in poses]
    places = np.concatenate([each[..., :3].reshape(-1, 3) for each in kept])
    low, high = places.min(axis=0), places.max(axis=0)
    origin, scale = 0.5 * (low + high), max(float((high - low).max()) / 2, 1e-6) / STEPS
    world = scene.body_poses(scene.motions[0].qpos[:1])
    index = {int(body): number for number, body in enumerate(moving)}
    geoms, meshes, floor = _geoms(scene, index, world)
    cameras = [view(scene, motion, camera, aspect=4 / 3) for motion in scene.motions]
    span = max(float(np.ptp(places[:, :2], axis=0).max()), cameras[0].distance)
    floor_size = 40.0 * span
    tile = 10.0 ** math.floor(math.log10(scene.robot_radius)) * 2.0
    return {
        "name": scene.name,
        "step": scene.control_step * stride,
        "bodies": len(moving),
        "root": index.get(scene.root, 0),
        "origin": _rounded(origin),
        "scale": scale,
        "fovy": float(model.vis.global_.fovy),
        "robot_radius": scene.robot_radius,
        "middle": scene.middle,
        "robot_moves": scene.robot_moves,
        "far": span,
        "flat_goal": scene.flat_goal,
        "goal_radius": scene.motions[0].radius,
        "floor": {
            "position": [*_rounded(origin[:2]), floor],
            "size": tile * round(floor_size / tile / 2) * 2,
            "tile": tile,
        },
        "geoms": geoms,
        "meshes": meshes,
        "episodes": [
            _episode(scene, motion, each, origin, scale, stride, shot, follow=camera == "follow" and scene.robot_moves)
            for motion, each, shot in zip(scene.motions, kept, cameras, strict=True)
        ],
    }


def _stride(scene: Scene, bodies: int) -> int:
    """Return the stride of the recorded frames that are kept."""
    stride = max(1, round(1 / (FPS * scene.control_step)))
    numbers = 7 * bodies * sum(len(motion.qpos) for motion in scene.motions)
    return max(stride, math.ceil(numbers * 2 * 4 / 3 / POSE_BYTES))


def _episode(
    scene: Scene,
    motion: Motion,
    poses: np.ndarray,
    origin: np.ndarray,
    scale: float,
    stride: int,
    shot: Any,
    *,
    follow: bool,
) -> dict[str, Any]:
    steps = np.concatenate([(poses[..., :3] - origin) / scale, poses[..., 3:] * STEPS], axis=-1)
    goals = motion.goal[::stride]
    still = bool((goals == goals[0]).all())
    # A kept frame counts as success if any frame that it replaces does.
    groups = [motion.success[at : at + stride].any() for at in range(0, len(motion.success), stride)]
    return {
        "frames": len(poses),
        "poses": _text(np.clip(np.rint(steps), -STEPS, STEPS).astype("<i2")),
        "goals": [_rounded(goal) for goal in (goals[:1] if still else goals)],
        "success": "".join("01"[int(each)] for each in groups),
        "outcome": describe(scene, motion),
        "camera": {
            "lookat": _rounded(shot.lookat[0]),
            "distance": shot.distance,
            "azimuth": math.radians(shot.azimuth),
            "elevation": math.radians(shot.elevation),
            "follow": follow,
        },
    }


def _geoms(
    scene: Scene, index: dict[int, int], world: tuple[np.ndarray, np.ndarray]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], float]:
    """Return all visible geoms in the frames of their bodies, their meshes, and the height of the floor."""
    model = scene.model
    geoms: list[dict[str, Any]] = []
    meshes: list[dict[str, Any]] = []
    mesh_numbers: dict[int, int] = {}
    floor = 0.0
    for geom in range(model.ngeom):
        kind, body = mujoco.mjtGeom(model.geom_type[geom]), int(model.geom_bodyid[geom])
        position, quaternion = model.geom_pos[geom], model.geom_quat[geom]
        if body not in index:  # it never moves: use its pose in the world
            position, quaternion = _compose(world[0][0, body], world[1][0, body], position, quaternion)
        if kind == mujoco.mjtGeom.mjGEOM_PLANE:
            floor = float(position[2])
        rgba = _rgba(model, geom)
        if kind not in SHAPES or rgba[3] == 0 or model.geom_group[geom] >= HIDDEN_GROUPS:
            continue
        entry: dict[str, Any] = {
            "body": index.get(body, -1),
            "type": SHAPES[kind],
            "size": _rounded(model.geom_size[geom]),
            "position": _rounded(position),
            "quaternion": _rounded(quaternion, 6),
            "rgba": _rounded(rgba, 3),
        }
        if kind == mujoco.mjtGeom.mjGEOM_MESH:
            mesh = int(model.geom_dataid[geom])
            if mesh not in mesh_numbers:
                mesh_numbers[mesh] = len(meshes)
                meshes.append(_mesh(model, mesh))
            entry["mesh"] = mesh_numbers[mesh]
        geoms.append(entry)
    return geoms, meshes, floor


def not_on_page(model: mujoco.MjModel) -> list[str]:
    """Return what a model has that the 3-D page does not draw; films and stills do."""
    return [name for name, count in (("tendons", model.ntendon), ("flex bodies", model.nflex)) if count]


def _mesh(model: mujoco.MjModel, mesh: int) -> dict[str, str]:
    vertex, face = model.mesh_vertadr[mesh], model.mesh_faceadr[mesh]
    vertices = model.mesh_vert[vertex : vertex + model.mesh_vertnum[mesh]]
    faces = model.mesh_face[face : face + model.mesh_facenum[mesh]]
    return {"vertices": _text(vertices.astype("<f4")), "faces": _text(faces.astype("<u4"))}


def _rgba(model: mujoco.MjModel, geom: int) -> np.ndarray:
    """Return the colour of a geom, or that of its material if it has the default colour."""
    material, own = int(model.geom_matid[geom]), model.geom_rgba[geom]
    return model.mat_rgba[material] if material >= 0 and np.allclose(own, (0.5, 0.5, 0.5, 1.0)) else own


def _compose(
    position: np.ndarray, quaternion: np.ndarray, local_position: np.ndarray, local_quaternion: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return a pose in a body's frame as a pose in the world."""
    at, turn = np.zeros(3), np.zeros(4)
    mujoco.mju_rotVecQuat(at, local_position, quaternion)
    mujoco.mju_mulQuat(turn, quaternion, local_quaternion)
    return position + at, turn


def _rounded(numbers: np.ndarray, digits: int = 5) -> list[float]:
    return [round(float(number), digits) for number in numbers]


def _text(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
