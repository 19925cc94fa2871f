"""Physics engines: they step many robots at once. Engines are a registry that user code can extend."""

from kilolayer.envs.engines import builtin
from kilolayer.envs.engines.point import PointEngine, PointPhysics
from kilolayer.envs.engines.registry import (
    EngineSpec,
    check_engine_name,
    engine_names,
    engine_spec,
    engines_of,
    make_engine,
    register_engine,
    same_physics,
    unregister_engine,
)

__all__ = [
    "EngineSpec",
    "PointEngine",
    "PointPhysics",
    "builtin",
    "check_engine_name",
    "engine_names",
    "engine_spec",
    "engines_of",
    "make_engine",
    "register_engine",
    "same_physics",
    "unregister_engine",
]
