"""The Panda of robosuite: reach a point. Its torque motors become position servos, which actions move in small steps.

pip install --no-deps robosuite
kilolayer --import examples/robots/panda.py envs check panda_reach
kilolayer --import examples/robots/panda.py train panda_reach --run-dir runs/panda_reach
"""

import jax
import jax.numpy as jnp

from kilolayer.envs import EnvironmentSpec, RobotTask, control, installed_file, register
from kilolayer.runs import HIGH_UTD, register_preset

POSE = (0.0, 0.196, 0.0, -2.618, 0.0, 2.942, 0.785)


class PandaReach(control.JointDeltas, RobotTask):
    """Move the hand to a point of a box in front of the arm."""

    mjcf = installed_file("robosuite", "models/assets/robots/panda/robot.xml")
    goal_body = "right_hand"
    success_distance = 0.05
    joint_step = 0.1
    lead = 0.3
    engines = ("mujoco",)

    def build(self):
        """Return the arm with servos, which carry its weight, at robosuite's pose."""
        spec = super().build()
        for motor, joint in zip(spec.actuators, spec.joints, strict=True):
            motor.set_to_position(kp=500.0, dampratio=1.0)
            motor.forcerange, motor.ctrlrange, motor.forcelimited = motor.ctrlrange, joint.range, True
            joint.armature = 0.1
        for body in spec.bodies:
            body.gravcomp = 1.0
        spec.add_key(name="home", qpos=POSE, ctrl=POSE)
        return spec

    def draw_goal(self, key):
        """Draw a point of the box."""
        return jax.random.uniform(key, (3,), minval=jnp.array([0.3, -0.3, 0.3]), maxval=jnp.array([0.6, 0.3, 0.7]))


register(EnvironmentSpec("panda_reach", "Panda reaches a point", PandaReach, episode_length=100))
register_preset("panda_reach", HIGH_UTD)
