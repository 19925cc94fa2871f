"""Tasks: what to reach, as pure functions on one robot."""

from kilolayer.envs.tasks.ant import Ant, AntCorridor, AntMaze, AntRandomStart
from kilolayer.envs.tasks.ant_objects import AntBall, AntBallMaze, AntPush
from kilolayer.envs.tasks.arm import ArmReach
from kilolayer.envs.tasks.arm_cube import ArmBinpick, ArmGrasp, ArmPush
from kilolayer.envs.tasks.half_cheetah import HalfCheetah
from kilolayer.envs.tasks.humanoid import Humanoid
from kilolayer.envs.tasks.point_maze import DiscretePointMaze, PointCorridor, PointMaze
from kilolayer.envs.tasks.pusher import Pusher, PusherReacher
from kilolayer.envs.tasks.quadruped import QuadrupedGo, QuadrupedStandUp
from kilolayer.envs.tasks.reacher import Reacher
from kilolayer.envs.tasks.runner import Hopper, Walker2d
from kilolayer.envs.tasks.six_axis import SixAxisPick, SixAxisPush, SixAxisReach
from kilolayer.envs.tasks.swimmers import Fish, Swimmer

__all__ = [
    "Ant",
    "AntBall",
    "AntBallMaze",
    "AntCorridor",
    "AntMaze",
    "AntPush",
    "AntRandomStart",
    "ArmBinpick",
    "ArmGrasp",
    "ArmPush",
    "ArmReach",
    "DiscretePointMaze",
    "Fish",
    "HalfCheetah",
    "Hopper",
    "Humanoid",
    "PointCorridor",
    "PointMaze",
    "Pusher",
    "PusherReacher",
    "QuadrupedGo",
    "QuadrupedStandUp",
    "Reacher",
    "SixAxisPick",
    "SixAxisPush",
    "SixAxisReach",
    "Swimmer",
    "Walker2d",
]
