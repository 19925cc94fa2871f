"""Cameras: above a maze, behind a walking robot, in front of an arm, or one of the model's own."""

import dataclasses
from typing import Final

import mujoco
import numpy as np
from jaxtyping import Float

from kilolayer.errors import ConfigurationError
from kilolayer.render.scene import Motion, Scene

FOLLOW, TOP = "follow", "top"
MODES: Final = (FOLLOW, TOP)
"""Cameras that every scene has; one of the model's own with such a name stands in for it."""

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
    name: str | None = None
    """Camera of the model that is looked through; azimuth and elevation are then those of the first frame."""
    fovy: float | None = None
    """Vertical field of view in degrees; None for that of all scenes."""


def default_mode(scene: Scene) -> str:
    """Return the default camera of a scene: above it if a robot moves among walls, otherwise near the robot."""
    return TOP if scene.robot_moves and (scene.maze is not None or scene.has_obstacles) else FOLLOW


def cameras_of(model: mujoco.MjModel) -> list[str]:
    """Return the names of a model's cameras."""
    return [name for number in range(model.ncam) if (name := model.camera(number).name)]


def check_camera(model: mujoco.MjModel, name: str | None) -> None:
    """Check that a scene can be seen from a camera.

    Args:
        model: the model that is drawn.
        name: `follow`, `top`, the name of one of the model's cameras, or None.

    Raises:
        ConfigurationError: if there is no such camera; the message lists all.
    """
    own = cameras_of(model)
    if name is not None and name not in (*MODES, *own):
        having = f"the model's cameras {', '.join(own)}" if own else "the model has no named cameras"
        raise ConfigurationError(f"camera={name!r} is unknown; there are {', '.join(MODES)}; {having}")


def view(scene: Scene, motion: Motion, camera: str | None, *, aspect: float) -> View:
    """Return the camera for one episode.

    `top` is fixed and shows all walls, or the whole motion if there are none, with rows of a maze downwards as in its
    text. `follow` moves with a robot whose base moves and looks past it towards the goal; a robot with a fixed base is
    shown from the side, together with its goal.

    Args:
        scene: the scene.
        motion: the episode.
        camera: `top`, `follow` or a camera of the model; None for the default of the scene.
        aspect: width of the picture divided by its height.

    Raises:
        ConfigurationError: if there is no such camera.
    """
    check_camera(scene.model, camera)
    if camera in cameras_of(scene.model):
        return _through(scene, motion, camera)
    frames = len(motion.qpos)
    path = scene.body_poses(motion.qpos)[0][:, scene.root]
    if (camera or default_mode(scene)) == TOP:
        azimuth, elevation = (180.0, -68.0) if scene.maze is not None else (90.0, -55.0)
        above = _fit(_arena(scene, motion), frames, azimuth, elevation, scene, aspect)
        return dataclasses.replace(above, path=path) if scene.robot_moves else above
    if not scene.robot_moves:
        goals = [place for each in scene.motions if (place := _goal_place(each)) is not None]
        ahead = np.mean(goals, axis=0) - path[0] if goals else np.zeros(3)
        azimuth = _azimuth(ahead) + 115.0  # from the side, slightly in front of the robot
        return _fit(_all_there_is(scene, motion), frames, azimuth, -28.0, scene, aspect)
    place = _goal_place(motion)
    beside = 18.0 if scene.robot_turns else 70.0  # directly from behind, the robot hides the goal
    azimuth = _azimuth((path[-1] if place is None else place) - path[0]) + beside
    return View(_smooth(path) + np.array([0.0, 0.0, scene.middle]), 5.0 * scene.robot_radius, azimuth, -22.0)


def _azimuth(ahead: Float[np.ndarray, "3"]) -> float:
    """Return the direction of a vector about z, in degrees."""
    return float(np.degrees(np.arctan2(ahead[1], ahead[0])))


def _goal_place(motion: Motion) -> Float[np.ndarray, "3"] | None:
    """Return where the goal is at the start: its mark, or the middle of its ghost."""
    if motion.goal is not None:
        return motion.goal[0]
    return None if motion.ghost is None else motion.ghost.position[0].mean(axis=0)


def _through(scene: Scene, motion: Motion, name: str | None) -> View:
    """Return a camera of the model, looking at a point as far ahead of it as the robot is."""
    number = scene.model.camera(name).id
    places, ahead, depths = [], [], []
    for qpos in motion.qpos:
        data = scene.place(qpos)
        places.append(data.cam_xpos[number].copy())
        ahead.append(-data.cam_xmat[number].reshape(3, 3)[:, 2])
        depths.append((data.xpos[scene.root] - places[-1]) @ ahead[-1])
    distance = max(float(np.median(depths)), scene.robot_radius)
    x, y, z = ahead[0]
    return View(
        lookat=np.array(places) + distance * np.array(ahead),
        distance=distance,
        azimuth=_azimuth(ahead[0]),
        elevation=float(np.degrees(np.arctan2(z, np.hypot(x, y)))),
        name=name,
        fovy=float(scene.model.cam_fovy[number]),
    )


def _arena(scene: Scene, motion: Motion) -> Float[np.ndarray, "points 3"]:
    """Return points that a view from above has to contain."""
    if scene.maze is None:
        return _all_there_is(scene, motion)
    rows, columns = scene.maze.walls.shape
    cell, top = scene.maze.cell_size, 0.3 * scene.maze.cell_size
    return _corners(np.array([-0.5, -0.5, 0.0]) * cell, np.array([(rows - 0.5) * cell, (columns - 0.5) * cell, top]))


def _all_there_is(scene: Scene, motion: Motion) -> Float[np.ndarray, "points 3"]:
    """Return the corners of all geoms during the motion, and of what shows the goal."""
    model = scene.model
    solid = scene.visible & (model.geom_type != mujoco.mjtGeom.mjGEOM_PLANE)
    if not solid.any():
        solid = model.geom_type != mujoco.mjtGeom.mjGEOM_PLANE
    middle, half = model.geom_aabb[solid, :3], model.geom_aabb[solid, 3:]
    unit = _corners(-np.ones(3), np.ones(3))
    points = [scene.body_poses(motion.qpos[:1])[0][0, scene.root] + 0.1 * scene.robot_radius * unit]
    if motion.goal is not None:
        points += [unit * motion.radius + place for place in np.unique(_some(motion.goal), axis=0)]
    if motion.ghost is not None:
        reach = [model.geom_rbound[model.geom_bodyid == body].max(initial=0.0) for body in motion.ghost.bodies]
        for places in _some(motion.ghost.position):
            points += [place + size * unit for place, size in zip(places, reach, strict=True)]
    for qpos in _some(motion.qpos):
        data = scene.place(qpos)
        turn = data.geom_xmat[solid].reshape(-1, 3, 3)
        boxes = middle[:, None] + half[:, None] * unit
        points.append((np.einsum("gij,gkj->gki", turn, boxes) + data.geom_xpos[solid, None]).reshape(-1, 3))
    return np.concatenate(points)


def _some(frames: np.ndarray) -> np.ndarray:
    """Return about `SAMPLES` of an episode's frames."""
    return frames[:: max(1, len(frames) // SAMPLES)]


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
