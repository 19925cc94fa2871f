"""Drawing an environment while it is stepped: as pictures, or in MuJoCo's window."""

import os
import sys
from typing import Any

import mujoco
import numpy as np
from jaxtyping import UInt8

from kilolayer.envs import Environment
from kilolayer.envs.drawing import drawable_of
from kilolayer.render.camera import view
from kilolayer.render.canvas import REACHED_RGB, WAITING_RGB, Canvas, RendererError
from kilolayer.render.record import model_of, motion_of, scene_of
from kilolayer.render.scene import Motion, Scene

SCREENS = ("DISPLAY", "WAYLAND_DISPLAY")
"""Environment variables that name a screen on Linux."""


def has_screen() -> bool:
    """Return whether there is a screen for a window. Without one, MuJoCo's viewer ends its process."""
    return sys.platform != "linux" or any(os.environ.get(name) for name in SCREENS)


class _Poses:
    """Turns what an engine holds of one robot into a motion of one frame."""

    def __init__(self, environment: Environment):
        self._environment, self._model = environment, model_of(environment)

    def _motion(self, physics: Any, desired_goal: np.ndarray, success: bool) -> Motion:
        environment = self._environment
        qpos = np.asarray(drawable_of(environment.task, environment.engine).scene_qpos(physics))
        return motion_of(environment, self._model, qpos, desired_goal[None], np.array([success]), int(success))


class Pictures(_Poses):
    """Draws one robot and its goal as pixels."""

    def __init__(self, environment: Environment, width: int, height: int):
        """Prepare to draw.

        Args:
            environment: whose robot it is.
            width: in pixels.
            height: in pixels.
        """
        super().__init__(environment)
        self._size = (width, height)
        self._canvas: Canvas | None = None
        self._scene: Scene | None = None

    def show(self, physics: Any, desired_goal: np.ndarray, success: bool) -> UInt8[np.ndarray, "height width 3"]:
        """Draw the robot.

        Args:
            physics: of a batch of one.
            desired_goal: the goal.
            success: the goal is reached.

        Raises:
            RendererError: if pictures cannot be drawn on this machine.
            ConfigurationError: if the task has no body to draw.
        """
        motion = self._motion(physics, desired_goal, success)
        if self._canvas is None:
            self._scene = scene_of(self._environment, self._model, [motion])
            self._canvas = Canvas(self._scene, *self._size)
        scene, (width, height) = self._scene, self._size
        assert scene is not None
        place = view(scene, motion, None, aspect=width / height)
        return self._canvas.draw(
            motion.qpos[0],
            place,
            0,
            goal=None if motion.goal is None else motion.goal[0],
            radius=motion.radius,
            ghost=None if motion.ghost is None else motion.ghost.at(0),
            success=success,
        ).copy()

    def close(self) -> None:
        """Free the OpenGL context."""
        if self._canvas is not None:
            self._canvas.close()
            self._canvas = None


class Window(_Poses):
    """Shows one robot and its goal in MuJoCo's viewer, which needs a screen."""

    def __init__(self, environment: Environment):
        """Prepare to show an environment; the window opens with the first pose."""
        super().__init__(environment)
        self._scene: Scene | None = None
        self._viewer: Any = None

    def show(self, physics: Any, desired_goal: np.ndarray, success: bool) -> None:
        """Show the robot; see `Pictures.show`.

        Raises:
            RendererError: if no window can be opened.
        """
        motion = self._motion(physics, desired_goal, success)
        if self._scene is None:
            self._scene = scene_of(self._environment, self._model, [motion])
        data = self._scene.place(motion.qpos[0])
        if self._viewer is None:
            self._viewer = _launch(self._scene.model, data)
        if not self._viewer.is_running():
            return
        if motion.goal is not None:
            with self._viewer.lock():
                drawn = self._viewer.user_scn
                mujoco.mjv_initGeom(
                    drawn.geoms[0],
                    mujoco.mjtGeom.mjGEOM_SPHERE,
                    np.full(3, motion.radius),
                    motion.goal[0],
                    np.eye(3).ravel(),
                    np.array((*(REACHED_RGB if success else WAITING_RGB), 0.5), np.float32),
                )
                drawn.ngeom = 1
        self._viewer.sync()

    def close(self) -> None:
        """Close the window."""
        if self._viewer is not None:
            self._viewer.close()
            self._viewer = None


def _launch(model: mujoco.MjModel, data: mujoco.MjData) -> Any:
    if not has_screen():
        raise RendererError("render_mode='human' needs a screen; take 'rgb_array'")
    from mujoco import viewer

    return viewer.launch_passive(model, data, show_left_ui=False, show_right_ui=False)
