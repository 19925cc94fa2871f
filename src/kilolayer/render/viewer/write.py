"""Interactive 3-D pages: one HTML file with geometry and poses as JSON, the drawing code and its library."""

import dataclasses
import html
import json
import math
import re
from importlib import resources
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from kilolayer.render.camera import FOLLOW, View, cameras_of, default_mode, view
from kilolayer.render.film import describe
from kilolayer.render.scene import Motion, Scene
from kilolayer.render.viewer.shapes import Shapes, rounded, tendon_pieces, text

FPS = 30.0
"""Maximum poses per second in a page; the browser interpolates between them."""
POSE_BYTES = 4_500_000
"""Maximum size of all poses of a page as text; beyond it, fewer poses per second are kept."""
STEPS = 32767
"""Positions and quaternions are rounded to 16-bit numbers from -STEPS to STEPS."""


def write_page(scene: Scene, path: Path, *, camera: str | None = None) -> Path:
    """Write an interactive page. The file appears when it is complete.

    Args:
        scene: the scene.
        path: the file.
        camera: first camera: `follow`, `top` or a camera of the model where that begins; None for the scene's default.

    Returns:
        The path.
    """
    page = filled(
        viewer_file("page.html"),
        title=html.escape(scene.name),
        style=viewer_file("style.css"),
        scene=script_json(scene_data(scene, camera)),
        three=viewer_file("three/three.min.js"),
        world=viewer_file("world.js"),
        script=viewer_file("player.js"),
    )
    partial = path.with_suffix(".partial")
    partial.write_text(page, encoding="utf-8")
    return partial.replace(path)


def viewer_file(name: str) -> str:
    """Return a file of the viewer, such as `world.js`, as text."""
    return resources.files("kilolayer.render.viewer").joinpath(name).read_text(encoding="utf-8")


def filled(page: str, **parts: str) -> str:
    """Return a page with its places, such as `{{title}}`, filled."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], page)


def script_json(data: Any) -> str:
    """Return plain data as JSON for a script of a page, where `<` would start a tag."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def scene_data(scene: Scene, camera: str | None = None, *, live: bool = False) -> dict[str, Any]:
    """Return everything that `world.js` and `player.js` draw of a scene, as plain data.

    Args:
        scene: the scene.
        camera: see `write_page`.
        live: poses that are not recorded follow.
    """
    model, mode = scene.model, camera or default_mode(scene)
    poses = [np.concatenate(scene.body_poses(motion.qpos), axis=-1) for motion in scene.motions]
    moving = scene.moving
    stride = _stride(scene, len(moving))
    kept = [each[::stride][:, moving] for each in poses]
    tendons, pieces = tendon_pieces(scene, [motion.qpos[::stride] for motion in scene.motions], spare=live)
    places = np.concatenate([each[..., :3].reshape(-1, 3) for each in (*kept, *pieces)])
    low, high = (places.min(axis=0), places.max(axis=0)) if len(places) else (np.zeros(3), np.zeros(3))
    grid = Grid(0.5 * (low + high), max(float((high - low).max()) / 2, 1e-6) / STEPS)
    index = {int(body): number for number, body in enumerate(moving)}
    shapes = Shapes(scene, index)
    ghost = sorted({int(body) for motion in scene.motions if motion.ghost for body in motion.ghost.bodies})
    cameras = [view(scene, motion, camera, aspect=4 / 3) for motion in scene.motions]
    span = max(float((high - low)[:2].max()), cameras[0].distance)
    floor_size = 40.0 * span
    tile = 10.0 ** math.floor(math.log10(scene.robot_radius)) * 2.0
    follow = mode == FOLLOW and mode not in cameras_of(model) and scene.robot_moves
    return {
        "name": scene.name,
        "step": scene.control_step * stride,
        "bodies": len(moving),
        "root": index.get(scene.root, 0),
        "origin": rounded(grid.origin),
        "scale": grid.scale,
        "fovy": cameras[0].fovy or float(model.vis.global_.fovy),
        "robot_radius": scene.robot_radius,
        "middle": scene.middle,
        "robot_moves": scene.robot_moves,
        "far": span,
        "flat_goal": scene.flat_goal,
        "goal_radius": max(motion.radius for motion in scene.motions),
        "floor": {
            "position": [*rounded(grid.origin[:2]), shapes.floor],
            "size": tile * round(floor_size / tile / 2) * 2,
            "tile": tile,
        },
        "geoms": shapes.geoms,
        "sites": shapes.sites,
        "ghost": shapes.of_bodies(ghost),
        "tendons": [
            {"width": float(model.tendon_width[tendon]), "rgba": rounded(model.tendon_rgba[tendon], 3)}
            for tendon in tendons
        ],
        "meshes": shapes.meshes,
        "episodes": [
            _episode(scene, motion, grid.poses(bodies), stride, shot, follow=follow)
            | {"tendons": grid.points(lines), "ghost": _ghost(motion, ghost, stride)}
            for motion, bodies, lines, shot in zip(scene.motions, kept, pieces, cameras, strict=True)
        ],
    }


@dataclasses.dataclass(frozen=True)
class Grid:
    """Poses and points as whole numbers."""

    origin: np.ndarray
    """Its middle, in metres."""
    scale: float
    """Metres of a step."""

    def poses(self, poses: np.ndarray) -> str:
        """Return positions and quaternions as text."""
        steps = np.concatenate([(poses[..., :3] - self.origin) / self.scale, poses[..., 3:] * STEPS], axis=-1)
        return text(np.clip(np.rint(steps), -STEPS, STEPS).astype("<i2"))

    def points(self, points: np.ndarray) -> str:
        """Return positions as text."""
        return text(np.clip(np.rint((points - self.origin) / self.scale), -STEPS, STEPS).astype("<i2"))


def _stride(scene: Scene, bodies: int) -> int:
    """Return the stride of the recorded frames that are kept."""
    stride = max(1, round(1 / (FPS * scene.control_step)))
    numbers = (7 * bodies + 6 * scene.model.nwrap) * sum(len(motion.qpos) for motion in scene.motions)
    return max(stride, math.ceil(numbers * 2 * 4 / 3 / POSE_BYTES))


def _episode(scene: Scene, motion: Motion, poses: str, stride: int, shot: View, *, follow: bool) -> dict[str, Any]:
    goals = np.zeros((0, 3)) if motion.goal is None else motion.goal[::stride]
    still = bool((goals == goals[:1]).all())
    # A kept frame counts as success if any frame that it replaces does.
    groups = [motion.success[at : at + stride].any() for at in range(0, len(motion.success), stride)]
    return {
        "frames": len(groups),
        "poses": poses,
        "goals": [rounded(goal) for goal in (goals[:1] if still else goals)],
        "success": "".join("01"[int(each)] for each in groups),
        "outcome": describe(scene, motion),
        "camera": {
            "lookat": rounded(shot.lookat[0]),
            "distance": shot.distance,
            "azimuth": math.radians(shot.azimuth),
            "elevation": math.radians(shot.elevation),
            "follow": follow,
        },
    }


def _ghost(motion: Motion, bodies: list[int], stride: int) -> list[list[list[float] | None]]:
    """Return the pose of each of some bodies in each kept frame, or in one if they stay; None where it has none."""
    ghost = motion.ghost
    if ghost is None:
        return []
    poses = np.concatenate([ghost.position, ghost.quaternion], axis=-1)[::stride]
    column = {int(body): number for number, body in enumerate(ghost.bodies)}
    return [[rounded(frame[column[body]]) if body in column else None for body in bodies] for frame in poses]


def not_on_page(model: mujoco.MjModel) -> list[str]:
    """Return what a model has that the 3-D page does not draw; films and stills do."""
    return [name for name, count in (("skins", model.nskin), ("flex bodies", model.nflex)) if count]
