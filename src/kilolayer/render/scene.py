"""A scene: a model and its motion in a few episodes, ready to be drawn as a film or a 3-D page."""

import dataclasses
from functools import cached_property

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Int

from kilolayer.envs.drawing import Drawable
from kilolayer.envs.mazes.maze import Maze
from kilolayer.render.ghost import Placed

FLOOR_RGB = ((0.84, 0.86, 0.88), (0.77, 0.80, 0.83))
SKY_RGB = ((0.97, 0.98, 0.99), (0.80, 0.86, 0.92))
SUN = (-0.30, 0.22, -1.0)
"""Direction of the light."""

GROUPS = frozenset({0, 1, 2})
"""Groups of geoms that are drawn unless others are asked for, as in MuJoCo's viewer: the rest are for collisions."""


@dataclasses.dataclass(frozen=True)
class Motion:
    """The frames of one episode, from its start to its last step."""

    qpos: Float[np.ndarray, "frames nq"]
    """Joint positions in MuJoCo's order."""
    goal: Float[np.ndarray, "frames 3"] | None
    """Position of the goal's mark, in metres; None for no mark."""
    radius: float
    """Radius of the mark, in metres."""
    success: Bool[np.ndarray, " frames"]
    """Whether the goal is reached in each frame."""
    time_at_goal: int
    """Number of steps of the episode in which the goal is reached."""
    ghost: Placed | None = None
    """The robot as the goal has it, if the task shows that."""


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """A model and its recorded episodes."""

    name: str
    """Name of the environment."""
    model: mujoco.MjModel
    motions: list[Motion]
    control_step: float
    """Time between two frames, in seconds."""
    flat_goal: bool
    """The goal is a position on the ground; otherwise a point in space."""
    maze: Maze | None
    """The maze, if the task has one."""
    groups: frozenset[int] = GROUPS
    """Groups of geoms that are drawn."""

    @cached_property
    def data(self) -> mujoco.MjData:
        """Working memory for kinematics."""
        return mujoco.MjData(self.model)

    @cached_property
    def moving(self) -> Int[np.ndarray, " moving"]:
        """Numbers of the bodies that can move."""
        return np.flatnonzero(self.model.body_weldid != 0)

    @cached_property
    def root(self) -> int:
        """The body that a camera follows: the root of the kinematic tree that the first actuator moves."""
        model = self.model
        if model.nu and model.actuator_trntype[0] == mujoco.mjtTrn.mjTRN_JOINT:
            return int(model.body_rootid[model.jnt_bodyid[model.actuator_trnid[0, 0]]])
        return min(1, model.nbody - 1)

    @cached_property
    def middle(self) -> float:
        """Height of the robot's middle above the origin of the root in the first frame, in metres."""
        data, own = self.place(self.motions[0].qpos[0]), self._own_geoms
        if not own.any():
            return 0.0
        heights, reach = data.geom_xpos[own, 2], self.model.geom_rbound[own]
        return float(0.5 * ((heights - reach).min() + (heights + reach).max()) - data.xpos[self.root, 2])

    @cached_property
    def robot_radius(self) -> float:
        """Distance from the robot's middle to its farthest point in the first frame, in metres."""
        middle, own = self.middle, self._own_geoms
        data = self.place(self.motions[0].qpos[0])
        if not own.any():
            return 0.5
        centre = data.xpos[self.root] + np.array([0.0, 0.0, middle])
        return float((np.linalg.norm(data.geom_xpos[own] - centre, axis=-1) + self.model.geom_rbound[own]).max())

    @property
    def _own_geoms(self) -> Bool[np.ndarray, " ngeom"]:
        """Whether each geom belongs to the robot."""
        return self.model.body_rootid[self.model.geom_bodyid] == self.root

    @property
    def robot_moves(self) -> bool:
        """Whether the robot's base can move."""
        return bool(self.model.body_dofnum[self.root] > 1)

    @property
    def robot_turns(self) -> bool:
        """Whether the robot's base can move and turn freely, and is not bound to a point or a vertical plane."""
        first = self.model.body_jntadr[self.root]
        return self.flat_goal or bool(first >= 0 and self.model.jnt_type[first] == mujoco.mjtJoint.mjJNT_FREE)

    @property
    def visible(self) -> Bool[np.ndarray, " ngeom"]:
        """Whether each geom is drawn."""
        return np.isin(self.model.geom_group, list(self.groups))

    @property
    def has_obstacles(self) -> bool:
        """Whether there are boxes fixed to the ground."""
        fixed = self.model.body_weldid[self.model.geom_bodyid] == 0
        return bool((fixed & (self.model.geom_type == mujoco.mjtGeom.mjGEOM_BOX)).any())

    def place(self, qpos: Float[np.ndarray, " nq"]) -> mujoco.MjData:
        """Set the model to a pose and return the working memory with everything that is drawn at its place."""
        self.data.qpos[:] = qpos
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        mujoco.mj_flex(self.model, self.data)
        mujoco.mj_tendon(self.model, self.data)
        return self.data

    def body_poses(self, qpos: Float[np.ndarray, "frames nq"]) -> tuple[np.ndarray, np.ndarray]:
        """Return the poses of all bodies.

        Args:
            qpos: joint positions of each frame.

        Returns:
            Positions in metres (frames, bodies, 3) and quaternions w, x, y, z (frames, bodies, 4).
        """
        position = np.empty((len(qpos), self.model.nbody, 3))
        quaternion = np.empty((len(qpos), self.model.nbody, 4))
        for frame, each in enumerate(qpos):
            data = self.place(each)
            position[frame], quaternion[frame] = data.xpos, data.xquat
        return position, quaternion

    def between(self, first: np.ndarray, second: np.ndarray, share: float) -> Float[np.ndarray, " nq"]:
        """Interpolate between two poses.

        Args:
            first: joint positions at `share` 0.
            second: joint positions at `share` 1.
            share: from 0 to 1.
        """
        velocity, pose = np.zeros(self.model.nv), np.array(first, np.float64)
        mujoco.mj_differentiatePos(self.model, velocity, 1.0, pose, np.asarray(second, np.float64))
        mujoco.mj_integratePos(self.model, pose, velocity, share)
        return pose


def scene_model(drawable: Drawable) -> mujoco.MjModel:
    """Return the model to draw for a task or an engine, with uniform floor, sky and light."""
    spec = drawable.scene()
    dress(spec)
    return spec.compile()


def dress(spec: mujoco.MjSpec) -> None:
    """Replace floor, sky and light of a model by uniform ones. Moving parts are unchanged.

    Args:
        spec: the model, edited in place.
    """
    spec.compiler.discardvisual = False  # as URDF sets it; it would also discard the sky
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
            geom.size = [0.0, 0.0, 1.0]  # infinite, as for the physics
    shade = {"ambient": [0.0] * 3, "specular": [0.15] * 3}
    directional = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    spec.worldbody.add_light(type=directional, dir=SUN, castshadow=True, diffuse=[0.62] * 3, **shade)
    look = spec.visual
    look.headlight.ambient, look.headlight.diffuse = [0.32] * 3, [0.14] * 3
    look.headlight.specular = [0.0] * 3
    look.quality.shadowsize = 2048
    look.rgba.haze = (*SKY_RGB[0], 1.0)
    look.global_.fovy = 40.0
