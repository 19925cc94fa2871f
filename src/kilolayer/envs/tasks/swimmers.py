"""Robots that swim to a point: a snake of blades in a plane of water, and a fish."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs.names import position_names, velocity_names, xyz
from kilolayer.envs.quaternions import about
from kilolayer.envs.robot_task import RobotState, RobotTask, Start
from kilolayer.envs.robots.mjcf import model_file
from kilolayer.envs.tasks.places import ring


class Swimmer(RobotTask):
    """Swim in a plane until the head is within 0.15 m of a point 0.4 to 1.5 m away.

    The observation (15) is x and y of the head (metres), cosine and sine of its heading, the four bends of the body
    (radians), and the velocities of the head along x and y, of its heading, and of the bends. The goal is x, y of the
    head. The action (4) is the torque of each bend from head to tail, from -0.6 to 0.6 N m. An episode begins at the
    origin, nearly straight, with any heading, at rest. Episodes end only by truncation. 5 steps of 0.01 s.
    """

    mjcf = model_file("swimmer")
    control_step = 0.05
    success_distance = 0.15
    engines = ("mujoco", "mjx")

    goal_distance = (0.4, 1.5)
    """Range of distances from the origin to the goal, in metres."""
    start_noise = 0.1
    """Half the range of each bend at the start, in radians."""

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw a heading and bends; the head is at the origin, and everything at rest."""
        heading_key, bend_key = jax.random.split(key)
        heading = jax.random.uniform(heading_key, (1,), minval=-jnp.pi, maxval=jnp.pi)
        bends = jax.random.uniform(bend_key, (4,), minval=-self.start_noise, maxval=self.start_noise)
        return Start(qpos=jnp.concatenate([jnp.zeros(2), heading, bends]), qvel=jnp.zeros(7))

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "2"]:
        """Draw a point of the ring."""
        return ring(key, *self.goal_distance)

    @property
    def observation_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of an observation."""
        heading = ("cosine of the heading", "sine of the heading")
        return (*xyz("head", axes="xy"), *heading, *position_names(self.model)[3:], *velocity_names(self.model))

    @property
    def goal_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of a goal."""
        return xyz("head", axes="xy")

    def observe(self, state: RobotState) -> Float[Array, "15"]:
        """Return place and heading of the head, bends, and all velocities."""
        heading = state.qpos[2]
        turned = jnp.stack([jnp.cos(heading), jnp.sin(heading)])
        return jnp.concatenate([state.qpos[:2], turned, state.qpos[3:], state.qvel])

    def achieved_goal(self, state: RobotState) -> Float[Array, "2"]:
        """Return x and y of the head, in metres."""
        return state.qpos[:2]


class Fish(RobotTask):
    """Swim to within 0.15 m of a point in space: 0.4 to 1.2 m away seen from above, and up to 0.3 m higher or lower.

    The observation (25) is the body's position x, y, z (metres) and quaternion (w, x, y, z), the angles of tail and
    tail fin, of the left fin (flap, turn) and of the right one (radians), the body's linear velocity (world axes,
    metres per second) and angular velocity (body axes, radians per second), and the joint velocities in the same order.
    The goal is x, y, z of the body. The action (6) is the target angle of each joint, over its whole range. An episode
    begins at the origin, level, with any heading, at rest. Episodes end only by truncation. 5 steps of 0.01 s.
    """

    mjcf = model_file("fish")
    control_step = 0.05
    success_distance = 0.15
    goal_body = "fish"
    engines = ("mujoco", "mjx")

    goal_distance = (0.4, 1.2)
    """Range of distances from the origin to the goal, seen from above, in metres."""
    goal_height = 0.3
    """Half the range of heights of goals, in metres."""

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw a heading."""
        home = self.home
        turned = about(jnp.array([0.0, 0.0, 1.0]), jax.random.uniform(key, minval=-jnp.pi, maxval=jnp.pi))
        return Start(qpos=home.qpos.at[3:7].set(turned), qvel=home.qvel)

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "3"]:
        """Draw a point of the ring, and a height."""
        place_key, height_key = jax.random.split(key)
        height = jax.random.uniform(height_key, (1,), minval=-self.goal_height, maxval=self.goal_height)
        return jnp.concatenate([ring(place_key, *self.goal_distance), height])
