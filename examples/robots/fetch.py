"""The Fetch arm of gymnasium-robotics: reach a point, and push a block. Actions move the gripper (a mocap body).

pip install --no-deps gymnasium-robotics
kilolayer --import examples/robots/fetch.py envs check fetch_reach
kilolayer --import examples/robots/fetch.py train fetch_push --run-dir runs/fetch_push
"""

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.envs import EnvironmentSpec, RobotTask, Start, control, installed_file, register
from kilolayer.runs import HIGH_UTD, register_preset

PLACE = np.array([1.34, 0.75], np.float32)


class FetchReach(control.MocapControl, RobotTask):
    """Move the gripper to a point of a cube of 0.3 m around its start."""

    mjcf = installed_file("gymnasium_robotics", "envs/assets/fetch/reach.xml")
    control_step = 0.04
    engines = ("mujoco",)
    goal_body = "robot0:grip"
    success_distance = 0.05
    settle = 2.0
    height = 0.555
    mocap_low, mocap_high = (1.0, 0.4, 0.44), (1.6, 1.1, 0.9)
    pose = (0.405, 0.48, 0.0, *(0.0 for _ in range(12)))

    def build(self):
        """Return the model, with the gripper above the table."""
        spec = super().build()
        spec.equalities[0].data[3:10] = [0, 0, 0, 1, 0, 0, 0]  # the gripper is where the mocap body is
        spec.add_key(name="home", qpos=self.pose, mpos=[*PLACE, self.height], mquat=[0.7071068, 0, 0.7071068, 0])
        return spec

    def draw_goal(self, key):
        """Draw a point around the gripper at the start."""
        return jnp.append(PLACE, 0.535) + jax.random.uniform(key, (3,), minval=-0.15, maxval=0.15)


class FetchPush(FetchReach):
    """Push a block to a point of the table. The observation is qpos and qvel, and the gripper's place."""

    mjcf = installed_file("gymnasium_robotics", "envs/assets/fetch/push.xml")
    goal_body = "object0"
    sites = ("robot0:grip",)
    height = 0.47
    pose = (*FetchReach.pose, 1.34, 0.9, 0.425, 1.0, 0.0, 0.0, 0.0)

    def draw_start(self, key):
        """Draw a place of the block beside the gripper."""
        angle = jax.random.uniform(key, maxval=2 * jnp.pi)
        place = PLACE + 0.12 * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        return Start(qpos=self.home.qpos.at[-7:-5].set(place), qvel=self.home.qvel)

    def draw_goal(self, key):
        """Draw a point of the table."""
        return jnp.append(PLACE + jax.random.uniform(key, (2,), minval=-0.15, maxval=0.15), 0.425)

    def observe(self, state):
        """Return joints, their velocities, and the gripper."""
        return jnp.concatenate([super().observe(state), self.position_of(state, "robot0:grip")])


register(EnvironmentSpec("fetch_reach", "Fetch reaches a point", FetchReach, episode_length=50))
register(EnvironmentSpec("fetch_push", "Fetch pushes a block", FetchPush, episode_length=100))
for name in ("fetch_reach", "fetch_push"):
    register_preset(name, HIGH_UTD)
