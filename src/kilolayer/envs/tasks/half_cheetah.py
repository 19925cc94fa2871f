"""The half cheetah: run to a point on a line."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs.names import xyz
from kilolayer.envs.robot_task import RobotState, RobotTask, Start, check_variant
from kilolayer.envs.robots.mjcf import model_file


class HalfCheetah(RobotTask):
    """Run along a line to within 0.5 m of a point, and stay there.

    The observation (18) is x and z of the torso relative to its rest pose (metres), its pitch, the angles of back
    thigh, shin, foot and front thigh, shin, foot (radians), and the velocities of these nine. The goal is x of the
    torso. The action (6) is the torque of each leg joint in the same order, as a fraction of the maximum: 120, 90, 60,
    120, 60, 30 N m. Episodes end only by truncation.

    The cheetah weighs 13.369 kg in both variants, as in the reference code, which scales the cheetah and a goal body of
    1 kg together to 14 kg.

    Source: `half_cheetah` of the paper's code; its model is Brax's. The variants differ as follows:

    | | `default` | `paper` |
    |---|---|---|
    | goal | 1 to 5 m ahead or behind, uniform in distance | always x = 5 m |

    Both run on MuJoCo and MJX with 5 steps of 0.01 s, as in the reference code. The spring engine is unstable with
    these steps.

    Args:
        variant: `"default"`, or `"paper"` for the goal of the reference code.

    Raises:
        ConfigurationError: if there is no such variant.
    """

    mjcf = model_file("half_cheetah")
    control_step = 0.05
    success_distance = 0.5
    engines = ("mujoco", "mjx")

    goal_distance = (1.0, 5.0)
    """Range of distances from the origin to the goal, in metres. Below 1 m an episode could begin at its goal."""
    start_noise = 0.1
    """Half the range of the noise on each position, and standard deviation of each velocity, at the start."""

    def __init__(self, variant: str = "default") -> None:
        check_variant(variant)
        self.variant = variant

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw a start: the zero pose with noise on all joint positions and velocities."""
        position_key, velocity_key = jax.random.split(key)
        home, noise = self.home, self.start_noise
        return Start(
            qpos=home.qpos + jax.random.uniform(position_key, home.qpos.shape, minval=-noise, maxval=noise),
            qvel=home.qvel + noise * jax.random.normal(velocity_key, home.qvel.shape),
        )

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "1"]:
        """Draw a distance and a side; in the paper's variant the goal is constant."""
        nearest, farthest = self.goal_distance
        if self.paper:
            return jnp.array([farthest])
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
