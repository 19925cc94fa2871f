"""A small arm with position servos, a gripper, sensors and a filtered motor, for the tests of what robots can do."""

import jax
import jax.numpy as jnp
import mujoco

from kilolayer.envs import RobotTask

MODEL = """
<mujoco>
  <option timestep="0.005" gravity="0 0 {gravity}"/>
  <default><geom contype="0" conaffinity="0" mass="0.2"/></default>
  <worldbody>
    <site name="origin" pos="0.1 0 0"/>
    <geom name="floor" type="plane" size="2 2 0.1" contype="1" conaffinity="1" mass="0"/>
    <body name="base" pos="0 0 0.5">
      <joint name="turn" axis="0 0 1" damping="0.1" armature="0.05"/>
      <geom type="capsule" size="0.02" fromto="0 0 0 0 0 0.1"/>
      <body name="upper" pos="0 0 0.1">
        <joint name="shoulder" axis="0 1 0" damping="0.1" armature="0.05"/>
        <geom type="capsule" size="0.02" fromto="0 0 0 0.3 0 0"/>
        <body name="lower" pos="0.3 0 0">
          <joint name="elbow" axis="0 1 0" damping="0.1" armature="0.05"/>
          <geom type="capsule" size="0.02" fromto="0 0 0 0.3 0 0"/>
          <site name="tip" pos="0.3 0 0" quat="0.8 0.6 0 0"/>
          <body name="finger" pos="0.3 0 0">
            <joint name="grip" type="slide" axis="0 1 0" range="-0.05 0.05" armature="0.1" damping="1"/>
            <geom size="0.01" mass="0.01"/>
          </body>
        </body>
      </body>
    </body>
    <body name="ball" pos="0.5 0.5 0.049">
      <freejoint/><geom name="ball" size="0.05" contype="1" conaffinity="1"/><site name="skin" size="0.06"/>
    </body>
  </worldbody>
  <tendon><fixed name="both"><joint joint="shoulder" coef="1"/><joint joint="elbow" coef="0.5"/></fixed></tendon>
  <actuator>
    <position kp="80" kv="8" name="turn" joint="turn" ctrlrange="-2 2"/>
    <position kp="80" kv="8" name="shoulder" joint="shoulder" ctrlrange="-2 2"/>
    <position kp="80" kv="8" name="elbow" joint="elbow" ctrlrange="-1 3"/>
    <general name="grip" joint="grip" dyntype="filter" dynprm="0.1" gainprm="1" ctrlrange="-1 1"/>
  </actuator>
  <sensor>
    <touch name="touch" site="skin"/>
    <framepos name="place" objtype="site" objname="tip"/>
    <jointvel name="speed" joint="elbow"/>
  </sensor>
  <keyframe>
    <key name="up" qpos="0 -0.8 1.2 0 0.5 0.5 0.049 1 0 0 0" ctrl="0 -0.8 1.2 0" act="0.25"/>
    <key name="aside" qpos="0.5 -0.6 1.0 0.01 0.5 0.5 0.049 1 0 0 0" qvel="0.1 0 0 0 0 0 0 0 0 0" act="-0.5"/>
  </keyframe>
</mujoco>
"""


class ServoArm(RobotTask):
    """Bring the tip to a point."""

    goal_body = "tip"
    control_step = 0.02
    gravity = 0.0

    def build(self):
        return mujoco.MjSpec.from_string(MODEL.format(gravity=self.gravity))

    def draw_goal(self, key):
        return jax.random.uniform(key, (3,), minval=jnp.array([0.2, -0.2, 0.3]), maxval=jnp.array([0.5, 0.2, 0.7]))


def batch(start, num_envs: int = 1):
    """The same start for a number of robots."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_envs, *leaf.shape)), start)
