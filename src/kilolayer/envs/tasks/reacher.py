"""The reacher: move the tip of an arm with two links to a point in the plane."""

from typing import Final

import jax
import jax.numpy as jnp
import mujoco
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs.names import xyz
from kilolayer.envs.quaternions import rotate
from kilolayer.envs.robot_task import RobotState, RobotTask, Start, check_variant
from kilolayer.envs.robots.mjcf import model_file

TIP: Final = (0.11, 0.0, 0.0)
"""Centre of the fingertip in the frame of the second link, in metres."""


class Reacher(RobotTask):
    """Move the fingertip to within 5 cm of a point.

    The observation (10) is the cosines of the two joint angles, their sines, and position (metres) and velocity (metres
    per second) of the tip. The goal is x, y, z of the tip. The action (2) is the torque on each joint, as a fraction of
    the maximum. Goals are uniform in direction and in distance, up to 0.2 m from the arm's root, so denser near the
    root; all have z = 0.01, the height of the arm. An episode begins with the arm almost straight along +x and almost
    at rest. Episodes end only by truncation.

    Source: `reacher` of the paper's code; its model is Brax's. The variants differ as follows:

    | | `default` | `paper` |
    |---|---|---|
    | engine | MuJoCo, 2 steps of 0.01 s | Brax's spring, 4 steps of 0.005 s |
    | maximum torque | 200 N m | 25 N m |
    | velocity of the tip | exact | as if the second link always pointed along +x |

    The variant `default` does not run on the spring engine, which is unstable with its time step and torque.

    Args:
        variant: `"default"`, or `"paper"` for the physics and the peculiarities of the reference code.

    Raises:
        ConfigurationError: if there is no such variant.
    """

    mjcf = model_file("reacher")
    control_step = 0.02
    bodies = ("body1",)
    success_distance = 0.05

    goal_height = 0.01
    """Height z of every goal, in metres."""
    goal_distance = 0.2
    """Largest distance of goals from the arm's root, in metres."""
    start_noise = 0.1
    """Half the range of each joint angle at the start, in radians."""
    start_speed = 0.005
    """Half the range of each joint velocity at the start, in radians per second."""

    def __init__(self, variant: str = "default") -> None:
        check_variant(variant)
        self.variant = variant
        self.engines = ("spring", "mujoco", "mjx") if self.paper else ("mujoco", "mjx")

    def build(self) -> mujoco.MjSpec:
        """Return the model: the arm."""
        spec = super().build()
        if self.paper:
            spec.option.timestep = 0.005
            for actuator in spec.actuators:
                actuator.gear[0] = 25.0
        return spec

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw joint angles and velocities near zero."""
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

    observation_names = (
        *(f"{function} of joint{joint} angle" for function in ("cosine", "sine") for joint in (0, 1)),
        *xyz("tip"),
        *xyz("tip velocity", "m/s"),
    )
    goal_names = xyz("tip")

    def observe(self, state: RobotState) -> Float[Array, "10"]:
        """Return cosines and sines of the joint angles, and position and velocity of the tip."""
        lever = jnp.asarray(TIP) if self.paper else self._lever(state)
        velocity = state.velocity[0] + jnp.cross(state.angular_velocity[0], lever)
        return jnp.concatenate([jnp.cos(state.qpos), jnp.sin(state.qpos), self.achieved_goal(state), velocity])

    def achieved_goal(self, state: RobotState) -> Float[Array, "3"]:
        """Return x, y, z of the tip, in metres."""
        return state.position[0] + self._lever(state)

    def _lever(self, state: RobotState) -> Float[Array, "3"]:
        """Return the vector from the second joint to the tip, in world axes."""
        return rotate(state.quaternion[0], jnp.asarray(TIP))
