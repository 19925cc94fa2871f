"""An arm of six axes that is moved in small steps, as arms are driven by a joystick: reach, push a cube, pick it up."""

import jax
import jax.numpy as jnp
import mujoco
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs.control import HeldEndEffector, JointDeltas
from kilolayer.envs.names import position_names, velocity_names, xyz
from kilolayer.envs.robot_task import RobotState, RobotTask, Start
from kilolayer.envs.robots import six_axis
from kilolayer.envs.robots.mjcf import model_file
from kilolayer.envs.robots.table import add_zone
from kilolayer.envs.tasks.places import ring, square

JOINTS = 6
"""Joints of the arm; fingers and cube follow."""
GOAL_RGBA = (0.35, 0.75, 0.55, 0.5)


class SixAxisReach(JointDeltas, RobotTask):
    """Move the tip of the gripper to within 5 cm of a point in the air, by steps of the joints.

    The observation (21) is the six joint angles (radians), their velocities (radians per second), by how much the
    targets of the servos are ahead of the joints (radians), and x, y, z of the tip (metres). The goal is x, y, z of the
    tip, drawn from a box of 0.3 x 0.6 x 0.4 m in front of the arm. The action (6) moves the target of each joint by up
    to 0.1 rad; targets stay within 0.3 rad of the joints. The fingers are closed. An episode begins with the gripper
    above the table, with noise on the joints. Episodes end only by truncation. 10 steps of 0.005 s.
    """

    mjcf = model_file("six_axis")
    control_step = 0.05
    success_distance = 0.05
    goal_body = "tip"
    engines = ("mujoco", "mjx")
    joint_step = 0.1
    lead = 0.3

    home_joints = (0.0, 0.2, 1.6, 0.0, 1.0, 0.0)
    """Radians."""
    start_noise = 0.3
    """Half the range of the noise on each joint at the start, in radians."""
    goal_low = (0.3, -0.3, 0.1)
    """Least x, y, z of goals, in metres."""
    goal_high = (0.6, 0.3, 0.5)
    """Greatest x, y, z of goals, in metres."""

    def build(self) -> mujoco.MjSpec:
        """Return the model: the arm, whose fingers do not move."""
        spec = super().build()
        for part in (spec.actuator("gripper"), spec.tendon("opening"), *spec.equalities):
            spec.delete(part)
        for finger in ("left_finger", "right_finger"):
            spec.delete(spec.joint(finger))
        spec.add_key(name="home", qpos=self.home_joints, ctrl=self.home_joints)
        return spec

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw noise on the joints; everything is at rest."""
        noise = jax.random.uniform(key, (JOINTS,), minval=-self.start_noise, maxval=self.start_noise)
        return Start(qpos=self.home.qpos + noise, qvel=self.home.qvel)

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "3"]:
        """Draw a point of the box."""
        return jax.random.uniform(key, (3,), minval=jnp.array(self.goal_low), maxval=jnp.array(self.goal_high))

    @property
    def observation_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of an observation."""
        return (*position_names(self.model), *velocity_names(self.model), *self.ahead_names(), *xyz("tip"))

    def observe(self, state: RobotState) -> Float[Array, "21"]:  # type: ignore[override]
        """Return joint angles, joint velocities, how far targets are ahead, and the tip."""
        return jnp.concatenate([state.qpos, state.qvel, self.ahead(state), self.achieved_goal(state)])


class SixAxisCube(HeldEndEffector, RobotTask):
    """Base class of the tasks with a cube.

    The gripper points down all the time. The first three entries of an action move its tip by up to 4 cm along x, y and
    z; the joints follow (`HeldEndEffector`). The observation begins with x, y, z (metres) and the velocity (metres
    per second) of the cube, x, y, z and velocity of the tip, and the six joint angles (radians), followed by how far
    the targets of the servos are ahead of them (radians): 24 entries. Episodes end only by truncation. 10 steps of
    0.005 s.
    """

    mjcf = model_file("six_axis")
    control_step = 0.05
    success_distance = 0.05
    bodies = ("cube",)
    goal_body = "cube"
    engines = ("mujoco", "mjx")
    end_effector = "tip"
    reach_step = 0.04
    lead = 0.3
    servo_share = 1.0

    middle = (0.45, 0.0)
    """Where the tip starts, and the middle of the square that goals of the cube are drawn from: x and y, in metres."""
    goal_width = 0.15
    """Half the edge of that square, in metres."""
    tip_height: float
    """Height of the tip at the start, in metres."""
    fingers: float
    """Position of each finger at the start, in metres."""

    def build(self) -> mujoco.MjSpec:
        """Return the model: arm and cube, with the square of goals marked."""
        spec = super().build()
        six_axis.add_cube(spec)
        add_zone(spec, self.middle, self.goal_width, GOAL_RGBA)
        joints = six_axis.pointing_down(self.middle[0], self.tip_height)
        six_axis.add_home(spec, joints, self.fingers, cube=(*self.middle, six_axis.CUBE_HALF_EDGE))
        return spec

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw x and y of the cube; the arm is at home, and everything at rest."""
        return Start(qpos=self.home.qpos.at[-7:-5].set(self.draw_cube(key)), qvel=self.home.qvel)

    def draw_cube(self, key: PRNGKeyArray) -> Float[Array, "2"]:
        """Draw x and y of the cube at the start, in metres."""
        raise NotImplementedError

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "3"]:
        """Draw a place of the cube on the table."""
        return jnp.append(square(key, self.middle, self.goal_width), six_axis.CUBE_HALF_EDGE)

    @property
    def observation_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of an observation."""
        parts = (*xyz("cube"), *xyz("cube velocity", "m/s"), *xyz("tip"), *xyz("tip velocity", "m/s"))
        return (*parts, *position_names(self.model)[:JOINTS], *self.ahead_names())

    def observe(self, state: RobotState) -> Float[Array, " observation"]:  # type: ignore[override]
        """Return cube, tip, joint angles, and how far targets are ahead."""
        assert state.sites is not None
        cube, tip = self.body("cube"), self.site("tip")
        angles = state.qpos[:JOINTS]
        places = (state.position[cube], state.velocity[cube], state.sites.position[tip], state.sites.velocity[tip])
        return jnp.concatenate([*places, angles, self.ahead(state)])


class SixAxisPush(SixAxisCube):
    """Push a cube to within 5 cm of a point on the table, with closed fingers.

    Observation (24) and action (3) are those of `SixAxisCube`: steps of the tip. The goal is x, y, z of the cube, on
    the table in a square with an edge of 0.3 m around (0.45, 0). The tip begins 2 cm above this point, and the cube 6.5
    to 10 cm beside it.
    """

    tip_height = 0.02
    fingers = 0.0
    cube_distance = (0.065, 0.1)
    """Range of distances from the tip to the cube at the start, in metres."""

    def draw_cube(self, key: PRNGKeyArray) -> Float[Array, "2"]:
        """Draw a place around the tip."""
        return jnp.array(self.middle) + ring(key, *self.cube_distance)

    @property
    def action_size(self) -> int:
        """Steps of the tip along x, y, z."""
        return 3

    def control(self, action: Float[Array, "3"], state: RobotState) -> Float[Array, " control"]:  # type: ignore[override]
        """Map an action to targets of the joints; the gripper stays closed."""
        return super().control(jnp.append(action, -1.0), state)

    @property
    def action_names(self) -> tuple[str, ...] | None:
        """Name, range and unit of each entry of an action."""
        names = super().action_names
        return names and names[:3]

    control_text = HeldEndEffector.control_text  # given again, because `control` is overridden


class SixAxisPick(SixAxisCube):
    """Carry a cube to within 5 cm of a point on the table or above it.

    The observation (25) is that of `SixAxisCube`, followed by the opening of the fingers (metres). The action (4) is
    three steps of the tip, and the target of the gripper from pressed together (-1) to open (1). The goal is x, y, z of
    the cube: in a square with an edge of 0.3 m around (0.45, 0), in one of two episodes on the table, else up to 0.25 m
    above it. The open gripper begins 6 cm above this point, and the cube up to 4 cm beside it along x and y.
    """

    tip_height = 0.06
    fingers = 0.04
    cube_noise = 0.04
    """Half the edge of the square that the cube's start is drawn from, in metres."""
    goal_height = 0.25
    """Greatest height of goals above a cube on the table, in metres."""

    def draw_cube(self, key: PRNGKeyArray) -> Float[Array, "2"]:
        """Draw a place below the gripper."""
        return square(key, self.middle, self.cube_noise)

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "3"]:
        """Draw a place of the cube, on the table or above it."""
        place_key, side_key, height_key = jax.random.split(key, 3)
        height = jax.random.uniform(height_key, maxval=self.goal_height)
        return super().draw_goal(place_key).at[2].add(jnp.where(jax.random.bernoulli(side_key), height, 0.0))

    @property
    def observation_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of an observation."""
        names = super().observation_names
        return names and (*names, "opening of the fingers (m)")

    def observe(self, state: RobotState) -> Float[Array, "25"]:  # type: ignore[override]
        """Return cube, tip, joint angles, how far targets are ahead, and the opening of the fingers."""
        opening = jnp.sum(state.qpos[JOINTS : JOINTS + 2], keepdims=True)
        return jnp.concatenate([super().observe(state), opening])
