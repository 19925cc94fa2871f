"""Cameras: above a maze, behind a walking robot, or in front of an arm."""

import dataclasses
from typing import Literal

import mujoco
import numpy as np
from jaxtyping import Float

from kilolayer.render.scene import Motion, Scene

CameraMode = Literal["follow", "top"]

MARGIN = 1.06
SAMPLES = 20
"""Approximate number of frames of an episode that a fixed camera is fitted to."""


@dataclasses.dataclass(frozen=True)
class View:
    """A camera that looks at a point, with MuJoCo's parameters."""

    lookat: Float[np.ndarray, "frames 3"]
    """Point that it looks at in each frame, in metres."""
    distance: float
    """Distance from that point to the camera, in metres."""
    azimuth: float
    """Direction of view about z, in degrees: 0 along +x, 90 along +y."""
    elevation: float
    """Direction of view above the horizon, in degrees: -90 straight down."""
    path: Float[np.ndarray, "frames 3"] | None = None
    """Path of the robot's base, drawn as a trail; None for no trail."""


def default_mode(scene: Scene) -> CameraMode:
    """Return the default camera of a scene: above it if a robot moves among walls, otherwise near the robot."""
    return "top" if scene.robot_moves and (scene.maze is not None or scene.has_obstacles) else "follow"


def view(scene: Scene, motion: Motion, mode: CameraMode, *, aspect: float) -> View:
    """Return the camera for one episode.

    `top` is fixed and shows all walls, or the whole motion if there are none, with rows of a maze downwards as in its
    text. `follow` moves with a robot whose base moves and looks past it towards the goal; a robot with a fixed base is
    shown from the side, together with its goal.

    Args:
        scene: the scene.
        motion: the episode.
        mode: `top` or `follow`.
        aspect: width of the picture divided by its height.
    """
    frames = len(motion.qpos)
    path = scene.body_poses(motion.qpos)[0][:, scene.root]
    if mode == "top":
        azimuth, elevation = (180.0, -68.0) if scene.maze is not None else (90.0, -55.0)
        above = _fit(_arena(scene, motion), frames, azimuth, elevation, scene, aspect)
        return dataclasses.replace(above, path=path) if scene.robot_moves else above
    if not scene.robot_moves:
        ahead = np.mean([each.goal[0] for each in scene.motions], axis=0) - path[0]
        azimuth = (
            float(np.degrees(np.arctan2(ahead[1], ahead[0]))) + 115.0
        )  # from the side, slightly in front of the robot
        return _fit(_all_there_is(scene, motion), frames, azimuth, -28.0, scene, aspect)
    to_goal = motion.goal[0, :2] - path[0, :2]
    beside = 18.0 if scene.robot_turns else 70.0  # directly from behind, the robot hides the goal
    azimuth = float(np.degrees(np.arctan2(to_goal[1], to_goal[0]))) + beside
    return View(_smooth(path) + np.array([0.0, 0.0, scene.middle]), 5.0 * scene.robot_radius, azimuth, -22.0)


def _arena(scene: Scene, motion: Motion) -> Float[np.ndarray, "points 3"]:
    """Return points that a view from above has to contain."""
    if scene.maze is None:
        return _all_there_is(scene, motion)
    rows, columns = scene.maze.walls.shape
    cell, top = scene.maze.cell_size, 0.3 * scene.maze.cell_size
    return _corners(np.array([-0.5, -0.5, 0.0]) * cell, np.array([(rows - 0.5) * cell, (columns - 0.5) * cell, top]))


def _all_there_is(scene: Scene, motion: Motion) -> Float[np.ndarray, "points 3"]:
    """Return the corners of all geoms during the motion, and of the goal's mark."""
    model = scene.model
    solid = model.geom_type != mujoco.mjtGeom.mjGEOM_PLANE
    middle, half = model.geom_aabb[solid, :3], model.geom_aabb[solid, 3:]
    points = [_corners(-np.ones(3), np.ones(3)) * motion.radius + goal for goal in motion.goal[:: len(motion.goal)]]
    for qpos in motion.qpos[:: max(1, len(motion.qpos) // SAMPLES)]:
        data = scene.place(qpos)
        turn = data.geom_xmat[solid].reshape(-1, 3, 3)
        boxes = middle[:, None] + half[:, None] * _corners(-np.ones(3), np.ones(3))
        points.append((np.einsum("gij,gkj->gki", turn, boxes) + data.geom_xpos[solid, None]).reshape(-1, 3))
    return np.concatenate(points)


def _corners(low: np.ndarray, high: np.ndarray) -> Float[np.ndarray, "8 3"]:
    return np.array(
        [[(low, high)[i][0], (low, high)[j][1], (low, high)[k][2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    )


def _fit(points: np.ndarray, frames: int, azimuth: float, elevation: float, scene: Scene, aspect: float) -> View:
    """Return the nearest camera in a direction that shows all points."""
    a, e = np.radians(azimuth), np.radians(elevation)
    forward = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    right = np.array([np.sin(a), -np.cos(a), 0.0])
    up = np.cross(right, forward)
    slope = np.tan(np.radians(scene.model.vis.global_.fovy) / 2)
    centre = 0.5 * (points.min(axis=0) + points.max(axis=0))
    for _ in range(8):  # perspective shifts the centre, so iterate
        offset = points - centre
        depth, x, y = offset @ forward, offset @ right, offset @ up
        distance = float(np.max(np.maximum(np.abs(x) / (slope * aspect), np.abs(y) / slope) - depth))
        across, along = x / (distance + depth), y / (distance + depth)
        centre = centre + 0.5 * distance * ((across.max() + across.min()) * right + (along.max() + along.min()) * up)
    return View(np.tile(centre, (frames, 1)), MARGIN * distance, azimuth, elevation)


def _smooth(path: Float[np.ndarray, "frames 3"], *, width: int = 12) -> Float[np.ndarray, "frames 3"]:
    """Return a path smoothed by a Gaussian, without the oscillation of a gait."""
    kernel = np.exp(-0.5 * (np.arange(-2 * width, 2 * width + 1) / width) ** 2)
    padded = np.pad(path, ((2 * width, 2 * width), (0, 0)), mode="edge")
    return np.stack([np.convolve(padded[:, axis], kernel / kernel.sum(), "valid") for axis in range(3)], axis=-1)
