"""Runners in a plane, which run to a point on a line: hopper and walker. The half cheetah has a file of its own."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.envs.names import xyz
from kilolayer.envs.robot_task import RobotState, RobotTask, Start
from kilolayer.envs.robots.mjcf import model_file


class Runner(RobotTask):
    """Base class: a robot in the x-z plane, whose first three joints are x, z and pitch of its torso.

    The observation is all joint positions (metres, radians) and velocities. The goal is x of the torso, reached within
    0.5 m: a point ahead or behind, uniform in distance.
    """

    control_step = 0.05
    success_distance = 0.5
    engines = ("mujoco", "mjx")

    goal_distance: tuple[float, float] = (1.0, 3.0)
    """Range of distances from the origin to the goal, in metres. Below 1 m an episode could begin at its goal."""
    start_noise = 0.02
    """Half the range of the noise on each position, and standard deviation of each velocity, at the start."""

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw a start: the home pose with noise on all joint positions and velocities."""
        position_key, velocity_key = jax.random.split(key)
        home, noise = self.home, self.start_noise
        return Start(
            qpos=home.qpos + jax.random.uniform(position_key, home.qpos.shape, minval=-noise, maxval=noise),
            qvel=home.qvel + noise * jax.random.normal(velocity_key, home.qvel.shape),
        )

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "1"]:
        """Draw a distance and a side."""
        nearest, farthest = self.goal_distance
        distance_key, side_key = jax.random.split(key)
        distance = jax.random.uniform(distance_key, (1,), minval=nearest, maxval=farthest)
        return jnp.where(jax.random.bernoulli(side_key), distance, -distance)

    @property
    def goal_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of a goal."""
        return xyz("torso", axes="x")

    def achieved_goal(self, state: RobotState) -> Float[Array, "1"]:
        """Return x of the torso, in metres."""
        return state.qpos[:1]


class _Upright(Runner):
    """A runner that stands by the springs of its joints under an action of 0, and loses when it falls."""

    settle = 1.0
    hip_height = 0.9
    """Height of the torso's frame at which its joint root_z is zero, in metres."""
    least_height = 0.5
    """Height of the hip in metres below which an episode terminates."""
    most_pitch = 1.0
    """Pitch of the torso in radians, to either side, beyond which an episode terminates."""

    def failed(self, state: RobotState) -> Bool[Array, ""]:
        """Return whether the robot has fallen."""
        return (self.hip_height + state.qpos[1] < self.least_height) | (jnp.abs(state.qpos[2]) > self.most_pitch)


class Hopper(_Upright):
    """Hop on one leg to within 0.5 m of a point 1 to 3 m ahead or behind, and stay there.

    The observation (12) is x and z of the hip relative to straight legs (metres), the pitch of the torso, the angles of
    hip, knee and ankle (radians), and the velocities of these six. The goal is x of the hip. The action (3) is the
    torque of hip, knee and ankle, as a fraction of the maximum: 80, 80, 60 N m; springs in the joints add to it, and
    hold the robot upright under an action of 0. An episode terminates when the hip is below 0.5 m, or the torso tilts
    by more than 1 rad. 10 steps of 0.005 s.
    """

    mjcf = model_file("hopper")


class Walker2d(_Upright):
    """Walk on two legs to within 0.5 m of a point 1 to 3 m ahead or behind, and stay there.

    The observation (18) is x and z of the hip relative to straight legs (metres), the pitch of the torso, the angles of
    right hip, knee, ankle and left hip, knee, ankle (radians), and the velocities of these nine. The goal is x of the
    hip. The action (6) is the torque of the leg's joints in the same order, as a fraction of the maximum: 60, 60, 40
    N m; springs in the joints add to it, and hold the robot upright under an action of 0. An episode terminates when
    the hip is below 0.5 m, or the torso tilts by more than 1 rad. 10 steps of 0.005 s.
    """

    mjcf = model_file("walker2d")
