"""Engines: how a world moves, many robots at once.

The robots' engines are imported when they are asked for: some need packages that not everyone installs.
"""

from kilolayer.envs.engines.choice import ENGINES, EngineName, default_engine, make_engine
from kilolayer.envs.engines.point import PointEngine, PointPhysics

__all__ = ["ENGINES", "EngineName", "PointEngine", "PointPhysics", "default_engine", "make_engine"]
