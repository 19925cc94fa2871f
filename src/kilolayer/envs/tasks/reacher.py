"""The reacher: bring the tip of an arm of two links to a point of the plane."""

from pathlib import Path
from typing import Final

import jax
import jax.numpy as jnp
import mujoco
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs.robot_task import RobotState, RobotTask, Start, check_variant, rotate

TIP: Final = (0.11, 0.0, 0.0)
"""Metres: the fingertip's centre in the frame of the second link."""


class Reacher(RobotTask):
    """Bring the fingertip within 5 cm of a point.

    The observation (10) is the cosines of the two joint angles, their sines, the tip's x, y, z (metres) and the tip's
    velocity (metres per second). The goal is x, y, z of the tip. The action (2) is the torque on each joint, in parts
    of the greatest. Goals lie within 0.2 m of the arm's root, each distance and each direction as likely as any other,
    so denser near the root; all have z = 0.01, the height of the arm. An episode begins with the arm nearly straight
    along +x and nearly at rest. Nothing ends it but its time.

    Source: the reference code's `reacher`, its model after Brax. The variants differ in this:

    | | `default` | `paper` |
    |---|---|---|
    | engine | MuJoCo, 2 steps of 0.01 s | Brax's spring, 4 steps of 0.005 s |
    | greatest torque | 200 N m | 25 N m |
    | the tip's velocity | true | as if the second link always pointed along +x |

    The variant `default` does not run on the spring engine: with its time step and torque that engine is unstable.

    Args:
        variant: `"default"`, or `"paper"` for the physics and the quirks of the reference code.

    Raises:
        ConfigurationError: for another variant.
    """

    mjcf = str(Path(__file__).parents[1] / "robots" / "reacher.xml")
    control_step = 0.02
    bodies = ("body1",)
    success_distance = 0.05

    goal_height = 0.01
    """Metres: z of every goal."""
    goal_distance = 0.2
    """Metres: how far from the arm's root goals can be."""
    start_noise = 0.1
    """Radians: half the range of each joint angle at the start."""
    start_speed = 0.005
    """Radians per second: half the range of each joint's velocity at the start."""

    def __init__(self, variant: str = "default") -> None:
        check_variant(variant)
        self.variant = variant
        self.engines = ("spring", "mujoco", "mjx") if self.paper else ("mujoco", "mjx")

    def build(self) -> mujoco.MjSpec:
        """Return the arm."""
        spec = super().build()
        if self.paper:
            spec.option.timestep = 0.005
            for actuator in spec.actuators:
                actuator.gear[0] = 25.0
        return spec

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw joint angles and velocities around zero."""
        angle_key, velocity_key = jax.random.split(key)
        return Start(
            qpos=jax.random.uniform(angle_key, (2,), minval=-self.start_noise, maxval=self.start_noise),
            qvel=jax.random.uniform(velocity_key, (2,), minval=-self.start_speed, maxval=self.start_speed),
        )

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "3"]:
        """Draw a distance and a direction from the arm's root."""
        distance_key, angle_key = jax.random.split(key)
        distance = jax.random.uniform(distance_key, maxval=self.goal_distance)
        angle = jax.random.uniform(angle_key, maxval=2 * jnp.pi)
        return jnp.stack([distance * jnp.cos(angle), distance * jnp.sin(angle), jnp.asarray(self.goal_height)])

    def observe(self, state: RobotState) -> Float[Array, "10"]:
        """Return cosines and sines of the joint angles, and position and velocity of the tip."""
        lever = jnp.asarray(TIP) if self.paper else self._lever(state)
        velocity = state.velocity[0] + jnp.cross(state.angular_velocity[0], lever)
        return jnp.concatenate([jnp.cos(state.qpos), jnp.sin(state.qpos), self.achieved_goal(state), velocity])

    def achieved_goal(self, state: RobotState) -> Float[Array, "3"]:
        """Return x, y, z of the tip."""
        return state.position[0] + self._lever(state)

    def _lever(self, state: RobotState) -> Float[Array, "3"]:
        """Return the way from the second joint to the tip, in world axes."""
        return rotate(state.quaternion[0], jnp.asarray(TIP))
