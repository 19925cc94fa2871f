"""Ready-made goals: `goal = PoseGoal("palm", radius=0.03, angle=0.2)` in a task says what is reached and when."""

from kilolayer.envs.goals.joints import JointGoal, StateGoal
from kilolayer.envs.goals.part import Goal
from kilolayer.envs.goals.places import PoseGoal, PositionGoal, RotationGoal
from kilolayer.envs.goals.poses import Reachable, reachable
from kilolayer.envs.goals.velocity import VelocityGoal

__all__ = [
    "Goal",
    "JointGoal",
    "PoseGoal",
    "PositionGoal",
    "Reachable",
    "RotationGoal",
    "StateGoal",
    "VelocityGoal",
    "reachable",
]
