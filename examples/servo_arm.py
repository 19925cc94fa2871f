"""An arm of position servos brings its tip to any point that it can reach, by small steps of its joints.

kilolayer --import examples/servo_arm.py envs check servo_arm
kilolayer --import examples/servo_arm.py train servo_arm --run-dir runs/servo_arm
kilolayer --import examples/servo_arm.py eval runs/servo_arm
"""

import dataclasses

import jax

from kilolayer.envs import EnvironmentSpec, RobotTask, register
from kilolayer.envs.control import JointDeltas
from kilolayer.envs.goals import PositionGoal
from kilolayer.runs import HIGH_UTD, register_preset


class ServoArm(JointDeltas, RobotTask):
    """Bring the tip to within 3 cm of a point."""

    mjcf = "servo_arm.xml"  # beside this file
    control_step = 0.05  # seconds between two actions
    joint_step = 0.15  # an action moves the target of a servo by up to 0.15 rad; of the gripper, within its range
    lead = 0.4  # no target is farther than this from its joint
    goal = PositionGoal("tip", radius=0.03)  # drawn where the arm can be, without touching itself

    def draw_start(self, key):
        """Begin in the keyframe, hardly moving."""
        speed = jax.random.uniform(key, self.home.qvel.shape, minval=-0.05, maxval=0.05)
        return dataclasses.replace(self.home, qvel=speed)


register(EnvironmentSpec("servo_arm", "arm of servos brings its tip to a point", task=ServoArm, episode_length=100))
register_preset("servo_arm", {**HIGH_UTD, "total_env_steps": 400_000})
