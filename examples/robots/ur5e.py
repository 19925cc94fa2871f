"""The UR5e of OGBench: reach a point with the flange, and move a cube with the gripper, by small steps in space.

pip install --no-deps ogbench
kilolayer --import examples/robots/ur5e.py envs check ur5e_reach
kilolayer --import examples/robots/ur5e.py train ur5e_cube --run-dir runs/ur5e_cube
"""

import jax
import jax.numpy as jnp
import mujoco

from kilolayer.envs import EnvironmentSpec, RobotTask, Start, control, installed_file, register
from kilolayer.runs import HIGH_UTD, register_preset

MODELS = "manipspace/descriptions"
PLACE = (0.5, 0.13, 0.02)


class UR5eReach(control.HeldEndEffector, RobotTask):
    """Move the flange to a point of a cube of 0.4 m in front of the arm."""

    mjcf = installed_file("ogbench", f"{MODELS}/universal_robots_ur5e/ur5e.xml")
    engines = ("mujoco",)
    end_effector = goal_body = "attachment_site"
    success_distance = 0.05
    reach_step = 0.03
    lead = 0.3

    def draw_goal(self, key):
        """Draw a point."""
        return jnp.array([0.5, 0.13, 0.45]) + jax.random.uniform(key, (3,), minval=-0.2, maxval=0.2)


class UR5eCube(UR5eReach):
    """Move a cube to a point of the floor. The observation ends with the place between the fingers."""

    end_effector, goal_body, servo_share = "gripper/pinch", "cube", None

    def build(self):
        """Return the arm with a gripper, above a cube on a floor."""
        return with_cube(super().build())

    def draw_start(self, key):
        """Draw a place of the cube."""
        place = self.home.qpos[-7:-5] + jax.random.uniform(key, (2,), minval=-0.08, maxval=0.08)
        return Start(qpos=self.home.qpos.at[-7:-5].set(place), qvel=self.home.qvel)

    def draw_goal(self, key):
        """Draw a place of the cube."""
        return jnp.array(PLACE).at[:2].add(jax.random.uniform(key, (2,), minval=-0.15, maxval=0.15))

    def observe(self, state):
        """Return joints, their velocities, and the place between the fingers."""
        return jnp.concatenate([super().observe(state), self.position_of(state, "gripper/pinch")])


def with_cube(spec):
    """Return a model of the arm with the gripper, a floor and a cube."""
    pose = [-1.571, -1.34, 1.9, -2.131, -1.571, 0.0]
    spec.option.impratio, spec.option.cone = 10, mujoco.mjtCone.mjCONE_ELLIPTIC
    gripper = mujoco.MjSpec.from_file(installed_file("ogbench", f"{MODELS}/robotiq_2f85/2f85.xml"))
    spec.attach(gripper, prefix="gripper/", site=spec.site("attachment_site"))
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[2, 2, 0.1])
    cube = spec.worldbody.add_body(name="cube", pos=PLACE)
    cube.add_freejoint()
    cube.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[PLACE[2]] * 3, mass=0.08, rgba=[0.9, 0.3, 0.3, 1])
    spec.delete(spec.key("home"))
    spec.add_key(name="home", qpos=[*pose, *[0] * 8, *PLACE, 1, 0, 0, 0], ctrl=[*pose, 0])
    return spec


register(EnvironmentSpec("ur5e_reach", "UR5e reaches a point", UR5eReach, episode_length=100))
register(EnvironmentSpec("ur5e_cube", "UR5e moves a cube", UR5eCube, episode_length=200))
for name in ("ur5e_reach", "ur5e_cube"):
    register_preset(name, HIGH_UTD)
