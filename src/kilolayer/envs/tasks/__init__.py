"""Tasks: what to reach, as pure functions on one robot."""

from kilolayer.envs.tasks.ant import Ant, AntCorridor, AntMaze
from kilolayer.envs.tasks.ant_objects import AntBall, AntPush
from kilolayer.envs.tasks.arm import ArmReach
from kilolayer.envs.tasks.arm_cube import ArmBinpick, ArmGrasp, ArmPush
from kilolayer.envs.tasks.half_cheetah import HalfCheetah
from kilolayer.envs.tasks.humanoid import Humanoid
from kilolayer.envs.tasks.point_maze import DiscretePointMaze, PointCorridor, PointMaze
from kilolayer.envs.tasks.pusher import Pusher
from kilolayer.envs.tasks.reacher import Reacher

__all__ = [
    "Ant",
    "AntBall",
    "AntCorridor",
    "AntMaze",
    "AntPush",
    "ArmBinpick",
    "ArmGrasp",
    "ArmPush",
    "ArmReach",
    "DiscretePointMaze",
    "HalfCheetah",
    "Humanoid",
    "PointCorridor",
    "PointMaze",
    "Pusher",
    "Reacher",
]
