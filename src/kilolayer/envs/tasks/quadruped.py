"""A quadruped with position servos: go to a point, and stand up from any pose."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.envs.names import xyz
from kilolayer.envs.quaternions import about, multiply, rotate, unit
from kilolayer.envs.robot_task import RobotState, RobotTask, Start
from kilolayer.envs.robots.mjcf import model_file
from kilolayer.envs.tasks.places import ring

UP = (0.0, 0.0, 1.0)


class Quadruped(RobotTask):
    """Base class of the quadruped's tasks.

    The observation (37) is the torso's position x, y, z (metres) and quaternion (w, x, y, z), the angles of the twelve
    joints (radians; legs front left, front right, back left, back right; sideways, thigh, shin), the torso's linear
    velocity (world axes, metres per second) and angular velocity (body axes, radians per second), and the joint
    velocities in the same order. The action (12) is the target angle of each joint, around that of the stance. 10 steps
    of 0.005 s.
    """

    mjcf = model_file("quadruped")
    control_step = 0.05
    engines = ("mujoco", "mjx")
    settle = 1.0
    joint_noise = 0.05
    """Half the range of the noise on each joint at the start, in radians."""

    def with_noise(self, key: PRNGKeyArray) -> Start:
        """Return the stance with noise on the joints, at rest."""
        home, noise = self.home, self.joint_noise
        return Start(
            qpos=home.qpos.at[7:].add(jax.random.uniform(key, (12,), minval=-noise, maxval=noise)), qvel=home.qvel
        )

    def up(self, state: RobotState) -> Float[Array, "3"]:
        """Return the direction of the torso's z axis in the world: 0, 0, 1 if it is level."""
        return rotate(state.qpos[3:7], jnp.array(UP))


class QuadrupedGo(Quadruped):
    """Walk to within 0.3 m of a point 0.6 to 2.5 m away, in any direction, and stay there.

    `Quadruped` describes observation and action: an action of 1 moves a target by 0.2 of half its range, as larger
    random steps overturn the robot. The goal is x, y of the torso. An episode begins in the stance at the origin,
    facing +x, and terminates when the torso tilts by more than 70 degrees.
    """

    success_distance = 0.3
    servo_share = 0.2
    goal_distance = (0.6, 2.5)
    """Range of distances from the origin to the goal, in metres."""
    least_upright = 0.34
    """Cosine of the torso's tilt below which the episode terminates."""

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw noise on the joints of the stance."""
        return self.with_noise(key)

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "2"]:
        """Draw a point of the ring."""
        return ring(key, *self.goal_distance)

    @property
    def goal_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of a goal."""
        return xyz("torso", axes="xy")

    def achieved_goal(self, state: RobotState) -> Float[Array, "2"]:
        """Return x and y of the torso, in metres."""
        return state.qpos[:2]

    def failed(self, state: RobotState) -> Bool[Array, ""]:
        """Return whether the robot has turned over."""
        return self.up(state)[2] < self.least_upright


class QuadrupedStandUp(Quadruped):
    """Stand up, to a height of the torso from 0.24 to 0.32 m, from where the robot has fallen, and stay so.

    `Quadruped` describes observation and action: an action of 1 moves a target by 0.8 of half its range. The goal (4)
    is the height of the torso (metres) and the direction of its z axis, which is 0, 0, 1 in every goal. It is reached
    below a distance of 0.08, at which the torso tilts by less than 5 degrees. An episode begins 0.48 m above the
    floor, with any heading and rolled or pitched to any side, from where the robot falls. Episodes end only by
    truncation.
    """

    success_distance = 0.08
    servo_share = 0.8
    joint_noise = 0.3
    goal_height = (0.24, 0.32)
    """Range of heights to stand at, in metres."""
    drop_height = 0.48
    """Height of the torso at the start, in metres: no leg touches the floor."""

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw an orientation and joint angles."""
        joint_key, turn_key = jax.random.split(key)
        start = self.with_noise(joint_key)
        heading, axis, tilt = jax.random.uniform(turn_key, (3,), minval=-jnp.pi, maxval=jnp.pi)
        over = about(jnp.stack([jnp.cos(axis), jnp.sin(axis), jnp.zeros(())]), tilt)
        turned = unit(multiply(over, about(jnp.array(UP), heading)))
        pose = jnp.concatenate([jnp.array([0.0, 0.0, self.drop_height]), turned])
        return Start(qpos=start.qpos.at[:7].set(pose), qvel=jnp.zeros_like(start.qvel))

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "4"]:
        """Draw a height."""
        low, high = self.goal_height
        return jnp.concatenate([jax.random.uniform(key, (1,), minval=low, maxval=high), jnp.array(UP)])

    @property
    def goal_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of a goal."""
        return ("torso z (m)", *(f"torso up {axis}" for axis in "xyz"))

    def achieved_goal(self, state: RobotState) -> Float[Array, "4"]:
        """Return the height of the torso, in metres, and the direction of its z axis."""
        return jnp.concatenate([state.qpos[2:3], self.up(state)])

    def marker(self, desired_goal: Float[np.ndarray, "4"]) -> tuple[Float[np.ndarray, "3"], float]:
        """Return a ball at the height to stand at, above the place of the start."""
        return np.array([0.0, 0.0, desired_goal[0]], np.float32), self.success_distance
