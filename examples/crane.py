"""A robot of your own: a crane learns to bring its swinging load to any point within reach, without a reward.

kilolayer --import examples/crane.py envs check crane
kilolayer --import examples/crane.py train crane --run-dir runs/crane
kilolayer --import examples/crane.py render runs/crane
"""

import jax
import jax.numpy as jnp

from kilolayer.envs import EnvironmentSpec, RobotTask, Start, register
from kilolayer.runs import LAPTOP, register_preset


class Crane(RobotTask):
    """Move the load to a point. Observation: drive, swing, hoist and their velocities; goal: x, y, z of the load."""

    mjcf = "crane.xml"
    control_step = 0.05
    goal_body = "load"
    success_distance = 0.1

    def draw_start(self, key):
        """Draw a position on the rail and a length of the rope, at rest."""
        drive, hoist = jax.random.uniform(key, (2,), minval=jnp.array([-1.0, 0.1]), maxval=jnp.array([1.0, 0.9]))
        return Start(qpos=jnp.stack([drive, 0.0, hoist]), qvel=jnp.zeros(3))

    def draw_goal(self, key):
        """Draw a point below the rail."""
        return jax.random.uniform(key, (3,), minval=jnp.array([-1.0, 0.0, 0.6]), maxval=jnp.array([1.0, 0.0, 1.4]))

    def failed(self, state):
        """Terminate when the load swings above the horizontal."""
        return jnp.abs(state.qpos[1]) > jnp.pi / 2


register(EnvironmentSpec("crane", "crane brings a swinging load to a point", task=Crane, episode_length=200))
register_preset("crane", LAPTOP)
