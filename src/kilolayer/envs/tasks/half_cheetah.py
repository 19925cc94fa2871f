"""The half cheetah: run to a point on a line."""

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs.robot_task import check_variant
from kilolayer.envs.robots.mjcf import model_file
from kilolayer.envs.tasks.runner import Runner


class HalfCheetah(Runner):
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
    goal_distance = (1.0, 5.0)
    start_noise = 0.1

    def __init__(self, variant: str = "default") -> None:
        check_variant(variant)
        self.variant = variant

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "1"]:
        """Draw a distance and a side; in the paper's variant the goal is constant."""
        return jnp.array([self.goal_distance[1]]) if self.paper else super().draw_goal(key)
