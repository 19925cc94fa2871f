"""Fish and quadruped of dm_control: swim to a point, and walk to a point.

pip install --no-deps dm_control
kilolayer --import examples/robots/control_suite.py envs check suite_fish
kilolayer --import examples/robots/control_suite.py train suite_quadruped --run-dir runs/suite_quadruped
"""

import jax
import jax.numpy as jnp

from kilolayer.envs import EnvironmentSpec, RobotTask, Start, installed_file, quaternions, register
from kilolayer.runs import HIGH_UTD, register_preset


class SuiteFish(RobotTask):
    """Swim to within 4 cm of a point: the fish is 17 cm long."""

    mjcf = installed_file("dm_control", "suite/fish.xml")
    control_step = 0.04
    goal_body = "torso"
    success_distance = 0.04
    engines = ("mujoco",)

    def build(self):
        """Return the model without its fixed target."""
        spec = super().build()
        spec.delete(spec.geom("target"))
        return spec

    def draw_start(self, key):
        """Draw a heading."""
        turned = quaternions.about(jnp.array([0.0, 0.0, 1.0]), jax.random.uniform(key, maxval=2 * jnp.pi))
        return Start(qpos=self.home.qpos.at[3:7].set(turned), qvel=self.home.qvel)

    def draw_goal(self, key):
        """Draw a point of the tank."""
        return jax.random.uniform(key, (3,), minval=jnp.array([-0.2, -0.2, 0.0]), maxval=jnp.array([0.2, 0.2, 0.2]))


class SuiteQuadruped(RobotTask):
    """Bring the torso to within 0.5 m of a point up to 4 m away; an episode ends when the robot turns over."""

    mjcf = installed_file("dm_control", "suite/quadruped.xml")
    control_step = 0.04
    goal_body = "torso"
    success_distance = 0.5
    settle = 1.0
    engines = ("mujoco",)

    def build(self):
        """Return the model on its plane, without hills and ball."""
        spec = super().build()
        for part in (spec.geom("terrain"), spec.hfields[0], spec.body("ball")):
            spec.delete(part)
        return spec

    def draw_goal(self, key):
        """Draw a point around the start."""
        return jnp.append(jax.random.uniform(key, (2,), minval=-3.0, maxval=3.0), 0.47)

    def failed(self, state):
        """Return whether the torso tilts by more than 70 degrees."""
        return quaternions.rotate(state.qpos[3:7], jnp.array([0.0, 0.0, 1.0]))[2] < 0.34


register(EnvironmentSpec("suite_fish", "fish of dm_control swims to a point", SuiteFish, episode_length=300))
register(EnvironmentSpec("suite_quadruped", "quadruped of dm_control walks", SuiteQuadruped, episode_length=400))
for name in ("suite_fish", "suite_quadruped"):
    register_preset(name, HIGH_UTD)
