"""A scene: a body and how it moved in a few episodes, ready to be drawn as a film or as a page."""

import dataclasses
from functools import cached_property

import mujoco
import numpy as np
from jaxtyping import Bool, Float

from kilolayer.envs.environment import Task
from kilolayer.envs.mazes.maze import Maze
from kilolayer.envs.mazes.walls import add_walls
from kilolayer.envs.robot_task import RobotTask
from kilolayer.envs.tasks import PointMaze
from kilolayer.errors import ConfigurationError

DISC_RGBA = (0.0, 0.447, 0.698, 1.0)
WALL_SHARE = 0.3
"""Height of a point maze's walls, as a share of a cell's edge."""

FLOOR_RGB = ((0.84, 0.86, 0.88), (0.77, 0.80, 0.83))
SKY_RGB = ((0.97, 0.98, 0.99), (0.80, 0.86, 0.92))
SUN = (-0.30, 0.22, -1.0)
"""The way the light falls."""


@dataclasses.dataclass(frozen=True)
class Motion:
    """One episode, frame by frame, from its start to its last step."""

    qpos: Float[np.ndarray, "frames nq"]
    """Joint positions in MuJoCo's order."""
    goal: Float[np.ndarray, "frames 3"]
    """Where the goal is marked, in metres."""
    radius: float
    """Of the mark, in metres."""
    success: Bool[np.ndarray, " frames"]
    """The goal is reached in this frame."""
    time_at_goal: int
    """Steps of the episode in which success holds."""


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """A model and its recorded episodes."""

    name: str
    """Of the environment."""
    model: mujoco.MjModel
    motions: list[Motion]
    control_step: float
    """Seconds between two frames."""
    flat_goal: bool
    """The goal is a place on the ground; otherwise a point in space."""
    maze: Maze | None
    """The walls, if there are any."""

    @cached_property
    def data(self) -> mujoco.MjData:
        """Working memory for kinematics."""
        return mujoco.MjData(self.model)

    @cached_property
    def root(self) -> int:
        """The body that a camera follows: the base of what the first actuator moves."""
        model = self.model
        if model.nu and model.actuator_trntype[0] == mujoco.mjtTrn.mjTRN_JOINT:
            return int(model.body_rootid[model.jnt_bodyid[model.actuator_trnid[0, 0]]])
        return min(1, model.nbody - 1)

    @cached_property
    def middle(self) -> float:
        """Metres from the root's origin up to the middle of the robot's height, in the first frame."""
        data, own = self.place(self.motions[0].qpos[0]), self._own_geoms
        if not own.any():
            return 0.0
        heights, reach = data.geom_xpos[own, 2], self.model.geom_rbound[own]
        return float(0.5 * ((heights - reach).min() + (heights + reach).max()) - data.xpos[self.root, 2])

    @cached_property
    def robot_radius(self) -> float:
        """Metres from the robot's middle to its farthest point, in the first frame."""
        middle, own = self.middle, self._own_geoms
        data = self.place(self.motions[0].qpos[0])
        if not own.any():
            return 0.5
        centre = data.xpos[self.root] + np.array([0.0, 0.0, middle])
        return float((np.linalg.norm(data.geom_xpos[own] - centre, axis=-1) + self.model.geom_rbound[own]).max())

    @property
    def _own_geoms(self) -> Bool[np.ndarray, " ngeom"]:
        """Which geoms are the robot's."""
        return self.model.body_rootid[self.model.geom_bodyid] == self.root

    @property
    def robot_moves(self) -> bool:
        """The robot's base can move."""
        return bool(self.model.body_dofnum[self.root] > 1)

    @property
    def robot_turns(self) -> bool:
        """The robot's base can go and look anywhere; a base that cannot is bound to a plane or a place."""
        first = self.model.body_jntadr[self.root]
        return self.flat_goal or bool(first >= 0 and self.model.jnt_type[first] == mujoco.mjtJoint.mjJNT_FREE)

    @property
    def has_obstacles(self) -> bool:
        """Something stands fast on the ground."""
        fast = self.model.body_weldid[self.model.geom_bodyid] == 0
        return bool((fast & (self.model.geom_type == mujoco.mjtGeom.mjGEOM_BOX)).any())

    def place(self, qpos: Float[np.ndarray, " nq"]) -> mujoco.MjData:
        """Put the model into a pose; returns the working memory, where poses of bodies and geoms are."""
        self.data.qpos[:] = qpos
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        return self.data

    def body_poses(self, qpos: Float[np.ndarray, "frames nq"]) -> tuple[np.ndarray, np.ndarray]:
        """Return position (frames, bodies, 3) and orientation (frames, bodies, 4; w, x, y, z) of all bodies."""
        position = np.empty((len(qpos), self.model.nbody, 3))
        quaternion = np.empty((len(qpos), self.model.nbody, 4))
        for frame, each in enumerate(qpos):
            data = self.place(each)
            position[frame], quaternion[frame] = data.xpos, data.xquat
        return position, quaternion

    def between(self, first: np.ndarray, second: np.ndarray, share: float) -> Float[np.ndarray, " nq"]:
        """Return the pose at `share` of the way from one pose to another."""
        velocity, pose = np.zeros(self.model.nv), np.array(first, np.float64)
        mujoco.mj_differentiatePos(self.model, velocity, 1.0, pose, np.asarray(second, np.float64))
        mujoco.mj_integratePos(self.model, pose, velocity, share)
        return pose


def has_body(task: Task) -> bool:
    """Say whether a task brings the model of a body."""
    return isinstance(task, RobotTask)


def scene_model(task: Task) -> mujoco.MjModel:
    """Return the model that pictures of a task show; its joint positions are those of `RobotState.qpos`, or x and y.

    Raises:
        ConfigurationError: if the task has no body that could be drawn.
    """
    if isinstance(task, RobotTask):
        spec = task.build()
    elif isinstance(task, PointMaze):
        spec = point_spec(task)
    else:
        raise ConfigurationError(f"task {type(task).__name__} has no body to draw; give it a model (a RobotTask)")
    dress(spec)
    return spec.compile()


def point_spec(task: PointMaze) -> mujoco.MjSpec:
    """Return a point maze as a model: a disc on two slide joints between walls."""
    spec = mujoco.MjSpec()
    spec.worldbody.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1])
    height = WALL_SHARE * task.maze.cell_size
    add_walls(spec, task.maze, height=height)
    disc = spec.worldbody.add_body(name="disc")
    half = 0.35 * task.clearance
    for axis in ((1, 0, 0), (0, 1, 0)):
        disc.add_joint(type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis)
    kind = mujoco.mjtGeom.mjGEOM_CYLINDER
    disc.add_geom(type=kind, size=[task.clearance, half, 0], pos=[0, 0, half], rgba=DISC_RGBA)
    return spec


def dress(spec: mujoco.MjSpec) -> None:
    """Give a model the house's floor, sky and light in place of its own. Nothing that moves is touched."""
    for texture in list(spec.textures):
        if texture.type == mujoco.mjtTexture.mjTEXTURE_SKYBOX:
            spec.delete(texture)
    for light in list(spec.lights):
        spec.delete(light)
    sky = {"builtin": mujoco.mjtBuiltin.mjBUILTIN_GRADIENT, "rgb1": SKY_RGB[0], "rgb2": SKY_RGB[1]}
    spec.add_texture(name="house_sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, width=256, height=1536, **sky)
    floor = {"builtin": mujoco.mjtBuiltin.mjBUILTIN_CHECKER, "rgb1": FLOOR_RGB[0], "rgb2": FLOOR_RGB[1]}
    spec.add_texture(name="house_floor", type=mujoco.mjtTexture.mjTEXTURE_2D, width=256, height=256, **floor)
    material = spec.add_material(name="house_floor", texrepeat=[0.5, 0.5], texuniform=True, specular=0.0, shininess=0.0)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "house_floor"
    for geom in spec.worldbody.geoms:
        if geom.type == mujoco.mjtGeom.mjGEOM_PLANE:
            geom.material, geom.rgba = "house_floor", (0.5, 0.5, 0.5, 1.0)
            geom.size = [0.0, 0.0, 1.0]  # it ends at the horizon, as it does for the physics
    shade = {"ambient": [0.0] * 3, "specular": [0.15] * 3}
    directional = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    spec.worldbody.add_light(type=directional, dir=SUN, castshadow=True, diffuse=[0.62] * 3, **shade)
    look = spec.visual
    look.headlight.ambient, look.headlight.diffuse = [0.32] * 3, [0.14] * 3
    look.headlight.specular = [0.0] * 3
    look.quality.shadowsize = 2048
    look.rgba.haze = (*SKY_RGB[0], 1.0)
    look.global_.fovy = 40.0
