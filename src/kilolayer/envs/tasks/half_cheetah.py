"""The half cheetah: run to a place on a line."""

from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs.robot_task import RobotState, RobotTask, Start, check_variant


class HalfCheetah(RobotTask):
    """Run along a line until the torso is within 0.5 m of a place, and stay there.

    The observation (18) is x and z of the torso from where they are at rest (metres), its pitch and the angles of back
    thigh, shin, foot and front thigh, shin, foot (radians), and the velocities of these nine. The goal is x of the
    torso. The action (6) is the torque of each leg joint in the same order, in parts of the greatest: 120, 90, 60, 120,
    60, 30 N m. Nothing ends an episode but its time.

    The runner weighs 13.369 kg in both variants, as in the reference code, which scales it and a goal body of 1 kg
    together to 14 kg.

    Source: the reference code's `half_cheetah`, its model after Brax. The variants differ in this:

    | | `default` | `paper` |
    |---|---|---|
    | goal | 1 to 5 m ahead or behind, each distance as likely as any other | always x = 5 m |

    Both run on MuJoCo and MJX, as the reference code does: 5 steps of 0.01 s. With these the spring engine is unstable.

    Args:
        variant: `"default"`, or `"paper"` for the goal of the reference code.

    Raises:
        ConfigurationError: for another variant.
    """

    mjcf = str(Path(__file__).parents[1] / "robots" / "half_cheetah.xml")
    control_step = 0.05
    success_distance = 0.5
    engines = ("mujoco", "mjx")

    goal_distance = (1.0, 5.0)
    """Metres from the origin to the goal. Below 1 m an episode could begin at its goal."""
    start_noise = 0.1
    """Half the range of the noise on each position, and standard deviation of each velocity, at the start."""

    def __init__(self, variant: str = "default") -> None:
        check_variant(variant)
        self.variant = variant

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw a start around the zero pose."""
        position_key, velocity_key = jax.random.split(key)
        home, noise = self.home, self.start_noise
        return Start(
            qpos=home.qpos + jax.random.uniform(position_key, home.qpos.shape, minval=-noise, maxval=noise),
            qvel=home.qvel + noise * jax.random.normal(velocity_key, home.qvel.shape),
        )

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "1"]:
        """Draw a distance and a side; in the paper's variant it is always the same place."""
        nearest, farthest = self.goal_distance
        if self.paper:
            return jnp.array([farthest])
        distance_key, side_key = jax.random.split(key)
        distance = jax.random.uniform(distance_key, (1,), minval=nearest, maxval=farthest)
        return jnp.where(jax.random.bernoulli(side_key), distance, -distance)

    def achieved_goal(self, state: RobotState) -> Float[Array, "1"]:
        """Return x of the torso."""
        return state.qpos[:1]
