"""Ways to control a robot, as mixins: `class Reach(JointDeltas, RobotTask)`."""

from kilolayer.envs.control.end_effector import EndEffectorControl
from kilolayer.envs.control.held import HeldEndEffector
from kilolayer.envs.control.joints import JointDeltas, JointRelative
from kilolayer.envs.control.mocap import MocapControl
from kilolayer.envs.control.rate_limit import RateLimit

__all__ = ["EndEffectorControl", "HeldEndEffector", "JointDeltas", "JointRelative", "MocapControl", "RateLimit"]
