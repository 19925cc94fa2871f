"""Registers names such as `gym:FetchReach-v4` and `ogbench:antmaze-medium-v0`, and the engines that step them."""

import functools
from typing import Any

from kilolayer.envs.engines import EngineSpec, register_engine
from kilolayer.envs.gym.environment import GymEnvironment
from kilolayer.envs.gym.sources import source_of
from kilolayer.envs.gym.task import GymTask, episode_length_of
from kilolayer.envs.interface import Engine
from kilolayer.envs.registry import EnvironmentSpec, register_family
from kilolayer.errors import ConfigurationError

FAMILY = "gymnasium"
"""The family of all these environments; training presets can be registered for it."""


def _spec(name: str) -> EnvironmentSpec | None:
    source = source_of(name)
    if source is None:
        return None
    return EnvironmentSpec(
        name=name,
        summary=f"an environment in Python, by {source.packages[0]}",
        task=functools.partial(GymTask, name),
        episode_length=episode_length_of(name),
        family=FAMILY,
        environment=GymEnvironment,
    )


def _engine(task: Any, *, processes: bool) -> Engine:
    from kilolayer.envs.gym.engine import GymEngine

    if not isinstance(task, GymTask):
        raise ConfigurationError(f"task {type(task).__name__} is no environment of Gymnasium; take another engine")
    return GymEngine(task, processes=processes)


register_family(_spec)
for _name, _processes, _summary in (
    ("gym_sync", False, "environments in Python, one after another"),
    ("gym_async", True, "environments in Python, each in a process of its own"),
):
    register_engine(
        EngineSpec(
            _name,
            _summary,
            functools.partial(_engine, processes=_processes),
            needs="pip install 'kilolayer[gym]'",
            runs_on="host",
        )
    )
