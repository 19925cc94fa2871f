"""Engines: how a world moves, many robots at once."""

from kilolayer.envs.engines.point import PointEngine, PointPhysics

__all__ = ["PointEngine", "PointPhysics"]
