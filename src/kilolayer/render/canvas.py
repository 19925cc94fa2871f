"""Off-screen drawing with MuJoCo's renderer on EGL or OSMesa, whichever works on this machine."""

import functools
import importlib
import itertools
import os
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

import mujoco
import numpy as np
from jaxtyping import Float, UInt8

from kilolayer.errors import RunError
from kilolayer.render.camera import View
from kilolayer.render.ghost import Placed, compose
from kilolayer.render.scene import SUN, Scene

WAITING_RGB, REACHED_RGB = (0.90, 0.62, 0.00), (0.00, 0.62, 0.45)
"""Colours of a goal before and after it is reached; they differ for colour-blind readers, too."""

GROUPS_OF_OPTIONS = ("geomgroup", "sitegroup", "jointgroup", "tendongroup", "actuatorgroup", "flexgroup", "skingroup")
"""What of a model MuJoCo's renderer can be told to leave out."""

GHOST_ALPHA = 0.35
"""Opacity of a ghost."""

TRAIL_RGB = (0.00, 0.24, 0.40)
TRAIL_PIECES = 300
"""Approximate maximum number of line segments in a trail."""

PROBE = """
import mujoco
from mujoco.rendering.classic import gl_context
context = gl_context.GLContext(16, 16)
context.make_current()
model = mujoco.MjSpec().compile()
mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value).free()
context.free()
"""
PROBE_SECONDS = 60.0

PLATFORMS = ("egl", "osmesa")
"""Ways to draw without a screen, the better one first."""

PLATFORM = "PYOPENGL_PLATFORM"
"""The environment variable that names PyOpenGL's, which has to agree with MuJoCo's."""

CURE = {
    "linux": "on Debian or Ubuntu: apt-get install libegl1 libopengl0 libgl1-mesa-dri",
    "darwin": "it needs a login with a window server",
}


class RendererError(RunError):
    """Pictures cannot be drawn on this machine."""


@functools.cache
def context_class() -> Any:
    """Return the class of OpenGL contexts of MuJoCo that works here: the one in `MUJOCO_GL`, else EGL, else OSMesa.

    Each is tried in a separate process, because a failing driver can terminate its process, and PyOpenGL cannot load a
    second platform. `PYOPENGL_PLATFORM` follows.

    Raises:
        RendererError: if none works; the message says what to install.
    """
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    names = PLATFORMS if sys.platform == "linux" and not asked else (asked,)
    for name in names:
        if _works(name):
            if name in PLATFORMS:
                os.environ[PLATFORM] = name  # MuJoCo refuses another value
                return importlib.import_module(f"mujoco.{name}").GLContext
            return importlib.import_module("mujoco.rendering.classic.gl_context").GLContext
    tried = f"MUJOCO_GL={asked} does not work" if asked else "neither EGL nor OSMesa works"
    cure = CURE.get(sys.platform, "it needs OpenGL")
    raise RendererError(f"pictures cannot be drawn here: {tried}; {cure}")


def _works(name: str) -> bool:
    environment = os.environ | ({"MUJOCO_GL": name} if name else {}) | ({PLATFORM: name} if name in PLATFORMS else {})
    try:
        command = [sys.executable, "-c", PROBE]
        return not subprocess.run(command, env=environment, capture_output=True, timeout=PROBE_SECONDS).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False


class Canvas:
    """An off-screen picture. Close it, or use it in a `with` statement.

    Raises:
        RendererError: if pictures cannot be drawn on this machine.
    """

    def __init__(self, scene: Scene, width: int, height: int):
        """Prepare to draw a scene.

        Args:
            scene: the scene.
            width: in pixels.
            height: in pixels.
        """
        model = scene.model
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        self._scene = scene
        self._rectangle = mujoco.MjrRect(0, 0, width, height)
        self._context = context_class()(width, height)
        self._context.make_current()
        self._renderer = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._renderer)
        self._drawn = mujoco.MjvScene(model, maxgeom=2 * model.ngeom + 1000)
        self._options = mujoco.MjvOption()
        self._options.sitegroup[:] = 0
        self._options.geomgroup[:] = [group in scene.groups for group in range(mujoco.mjNGROUP)]
        self._ghost_data = mujoco.MjData(model)
        self._ghost_options = mujoco.MjvOption()
        self._ghost_options.flags[:] = 0
        self._ghost_options.flags[mujoco.mjtVisFlag.mjVIS_STATIC] = 1
        for groups in GROUPS_OF_OPTIONS:
            getattr(self._ghost_options, groups)[:] = 0
        self._ghost_options.geomgroup[0] = 1
        self._camera = mujoco.MjvCamera()

    def draw(
        self,
        qpos: Float[np.ndarray, " nq"],
        view: View,
        frame: int,
        *,
        goal: Float[np.ndarray, "3"] | None = None,
        radius: float = 0.0,
        ghost: Placed | None = None,
        success: bool = False,
        trail: Float[np.ndarray, "points 3"] | None = None,
    ) -> UInt8[np.ndarray, "height width 3"]:
        """Draw the model in a pose, with its goal.

        Args:
            qpos: joint positions.
            view: the camera.
            frame: index of the point in `view.lookat`.
            goal: position of the goal's mark, in metres; None for no mark.
            radius: radius of the mark, in metres.
            ghost: bodies as the goal has them, drawn see-through; None for none.
            success: draw mark and ghost in the colour of a reached goal.
            trail: points of a line on the ground, in metres; None for no line.

        Returns:
            The pixels, red, green and blue from 0 to 255.
        """
        scene, camera, model = self._scene, self._camera, self._scene.model
        if view.name is None:
            camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FREE.value, -1
            camera.lookat[:] = view.lookat[frame]
            camera.distance, camera.azimuth, camera.elevation = view.distance, view.azimuth, view.elevation
        else:
            camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED.value, model.camera(view.name).id
        model.stat.extent = view.distance  # clipping planes are multiples of the extent
        # A camera on a robot sees what is near it.
        model.vis.map.znear, model.vis.map.zfar = 0.05 if view.name is None else 0.005, 14.0
        # Half the width of the shadow map. It extends far beyond the picture, because the ground looks speckled
        # near the edges of the map.
        self._renderer.shadowClip = 4.0 * view.distance
        data = scene.place(qpos)
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(model, data, self._options, None, camera, everything, self._drawn)
        direction = np.array(SUN) / np.linalg.norm(SUN)
        for light in self._drawn.lights[: self._drawn.nlight]:
            if light.castshadow:
                light.pos[:] = view.lookat[frame] - 0.6 * view.distance * direction
        if ghost is not None:
            self._ghost(ghost, REACHED_RGB if success else WAITING_RGB)
        if goal is not None:
            self._mark(goal, radius, REACHED_RGB if success else WAITING_RGB)
        if trail is not None:
            self._line(trail, 0.006 * view.distance)
        pixels = np.empty((self._rectangle.height, self._rectangle.width, 3), np.uint8)
        self._context.make_current()
        mujoco.mjr_render(self._rectangle, self._drawn, self._renderer)
        mujoco.mjr_readPixels(pixels, None, self._rectangle, self._renderer)
        return pixels[::-1]

    def _ghost(self, ghost: Placed, rgb: tuple[float, float, float]) -> None:
        """Add the visible geoms of some bodies, in poses of their own."""
        model, data, before = self._scene.model, self._ghost_data, self._drawn.ngeom
        shown = np.isin(model.geom_bodyid, ghost.bodies) & self._scene.visible
        for body, position, quaternion in zip(ghost.bodies, ghost.position[0], ghost.quaternion[0], strict=True):
            for geom in np.flatnonzero(shown & (model.geom_bodyid == body)):
                at, turn = compose(position, quaternion, model.geom_pos[geom], model.geom_quat[geom])
                data.geom_xpos[geom] = at
                mujoco.mju_quat2Mat(data.geom_xmat[geom], turn)
        groups = model.geom_group.copy()
        model.geom_group[:] = np.where(shown, 0, 1)  # MuJoCo leaves geoms out by their group alone
        mujoco.mjv_addGeoms(
            model, data, self._ghost_options, mujoco.MjvPerturb(), mujoco.mjtCatBit.mjCAT_ALL.value, self._drawn
        )
        model.geom_group[:] = groups
        for geom in self._drawn.geoms[before : self._drawn.ngeom]:
            geom.rgba[:] = (*rgb, GHOST_ALPHA)
            geom.matid, geom.emission = -1, 0.1
            geom.category = mujoco.mjtCatBit.mjCAT_DECOR.value  # casts no shadow

    def _mark(self, goal: np.ndarray, radius: float, rgb: tuple[float, float, float]) -> None:
        """Add the mark of a goal: a disc with a vertical beam on the ground, or a ball with a core."""
        cylinder, sphere = mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_SPHERE
        if self._scene.flat_goal:
            thin, tall = 0.03 * radius, 1.2 * radius
            self._add(cylinder, (radius, thin, thin), goal + np.array([0, 0, thin]), (*rgb, 0.55))
            self._add(cylinder, (0.07 * radius, tall, tall), goal + np.array([0, 0, tall]), (*rgb, 0.7))
        else:
            self._add(sphere, (0.22 * radius,) * 3, goal, (*rgb, 0.95))
            self._add(sphere, (radius,) * 3, goal, (*rgb, 0.32))

    def _add(self, kind: int, size: tuple, position: np.ndarray, rgba: tuple) -> mujoco.MjvGeom:
        geom = self._drawn.geoms[self._drawn.ngeom]
        mujoco.mjv_initGeom(
            geom, kind, np.array(size, np.float64), position, np.eye(3).ravel(), np.array(rgba, np.float32)
        )
        geom.emission = 0.1
        geom.category = mujoco.mjtCatBit.mjCAT_DECOR.value  # casts no shadow
        self._drawn.ngeom += 1
        return geom

    def _line(self, points: np.ndarray, height: float) -> None:
        """Add a line at a height above the ground, in metres."""
        width = max(2.0, self._rectangle.height / 140)
        points = points[:: max(1, len(points) // TRAIL_PIECES)] * (1.0, 1.0, 0.0) + (0.0, 0.0, height)
        for start, end in itertools.pairwise(points):
            geom = self._add(mujoco.mjtGeom.mjGEOM_LINE, (width,) * 3, start, (*TRAIL_RGB, 1.0))
            mujoco.mjv_connector(geom, mujoco.mjtGeom.mjGEOM_LINE, width, start, end)

    def close(self) -> None:
        """Free the OpenGL context."""
        if self._context is not None:
            self._context.make_current()
            self._renderer.free()
            self._context.free()
            self._context = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
