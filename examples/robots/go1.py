"""The Go1 of MuJoCo Playground: walk to a point. Its position servos move around the keyframe that stands.

pip install --no-deps playground
kilolayer --import examples/robots/go1.py envs check go1
kilolayer --import examples/robots/go1.py train go1 --run-dir runs/go1
"""

import jax
import jax.numpy as jnp
import mujoco

from kilolayer.envs import EnvironmentSpec, RobotTask, installed_file, quaternions, register
from kilolayer.runs import HIGH_UTD, register_preset


class Go1(RobotTask):
    """Bring the trunk to within 0.3 m of a point up to 2 m away; an episode ends when the robot turns over."""

    mjcf = installed_file("mujoco_playground", "_src/locomotion/go1/xmls/scene_mjx_feetonly_flat_terrain.xml")
    control_step = 0.04
    success_distance = 0.3
    settle = 0.5
    servo_share = 0.12
    goal_body = "trunk"

    def build(self):
        """Return the model without its meshes, which are not in the package."""
        spec = super().build()
        for part in [*(geom for geom in spec.geoms if geom.type == mujoco.mjtGeom.mjGEOM_MESH), *spec.meshes]:
            spec.delete(part)
        return spec

    def draw_goal(self, key):
        """Draw a point around the start."""
        return jnp.append(jax.random.uniform(key, (2,), minval=-1.5, maxval=1.5), 0.26)

    def failed(self, state):
        """Return whether the trunk tilts by more than 70 degrees."""
        return quaternions.rotate(state.qpos[3:7], jnp.array([0.0, 0.0, 1.0]))[2] < 0.34


register(EnvironmentSpec("go1", "Go1 walks to a point", Go1, episode_length=500))
register_preset("go1", HIGH_UTD)
