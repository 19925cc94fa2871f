"""The registry of physics engines: one entry for each name that the setting `engine` accepts."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from kilolayer.envs.interface import Engine, Task
from kilolayer.errors import ConfigurationError, UnknownNameError, nearest_names
from kilolayer.user_code import is_rerun

AUTO = "auto"
"""The value of the setting `engine` that selects the engine which suits task and machine."""


@dataclasses.dataclass(frozen=True)
class EngineSpec:
    """An entry of the registry."""

    name: str
    """Value of the setting `engine`."""
    summary: str
    """One line for lists."""
    build: Callable[[Any], Engine]
    """Build the engine for a task. Import modules that not every machine has in here, so that listing the engines does
    not load them."""
    needs: str = ""
    """What to install beside the library, such as `pip install 'kilolayer[mjx]'`; empty if nothing."""
    same_tasks_as: str = ""
    """Another engine, all of whose tasks this one runs, too. Empty: only tasks that list this engine in `Task.engines`
    run on it."""
    physics: str = ""
    """Name of the physics that it computes. `auto` chooses among engines that share it; empty is the engine's own."""
    runs_on: Literal["host", "device"] = "device"
    """Whether it steps robots on the cores of the CPU, or where JAX computes."""


_ENGINES: dict[str, EngineSpec] = {}


def register_engine(spec: EngineSpec) -> None:
    """Add an engine under its name.

    Args:
        spec: the entry.

    Raises:
        ConfigurationError: if the name is taken.
    """
    if spec.name == AUTO or (not is_rerun("engine", spec.name) and spec.name in _ENGINES):
        raise ConfigurationError(f"an engine named {spec.name!r} is already registered")
    _ENGINES[spec.name] = spec


def unregister_engine(name: str) -> None:
    """Remove an engine from the registry, if it is there."""
    _ENGINES.pop(name, None)


def engine_names() -> list[str]:
    """Return the valid values of the setting `engine`: `auto` and the names of all registered engines."""
    return [AUTO, *_ENGINES]


def engine_spec(name: str) -> EngineSpec:
    """Return the entry called `name`.

    Raises:
        ConfigurationError: if no engine has that name; the message lists similar names.
    """
    if name not in _ENGINES:
        listing = f"there are {', '.join(engine_names())}"
        raise UnknownNameError(f"engine={name!r} is unknown; {nearest_names(name, engine_names(), listing=listing)}")
    return _ENGINES[name]


def check_engine_name(name: str) -> None:
    """Validate the setting `engine`.

    Raises:
        ConfigurationError: if it is neither `auto` nor the name of a registered engine.
    """
    if name != AUTO:
        engine_spec(name)


def engines_of(task: Task) -> list[EngineSpec]:
    """Return the registered engines that can run a task: in the task's order, then others that run the same tasks."""
    listed = [_ENGINES[name] for name in task.engines if name in _ENGINES]
    return listed + [spec for spec in _ENGINES.values() if spec not in listed and spec.same_tasks_as in task.engines]


def same_physics(task: Task) -> list[EngineSpec]:
    """Return the registered engines that move a task by the same physics as the first that it lists."""
    fitting = engines_of(task)
    if not fitting or fitting[0].name != task.engines[0]:
        return []
    physics = _physics(fitting[0])
    return [spec for spec in fitting if _physics(spec) == physics]


def _physics(spec: EngineSpec) -> str:
    return spec.physics or spec.name


def make_engine(name: str, task: Task) -> Engine:
    """Build an engine for a task.

    Args:
        name: a registered engine.
        task: the task whose robot the engine simulates.

    Raises:
        ConfigurationError: if the engine is unknown, does not run the task, or needs a package that is not installed.
    """
    spec = engine_spec(name)
    if spec not in (fitting := engines_of(task)):
        names = ", ".join(each.name for each in fitting) or "no registered engine"
        raise ConfigurationError(f"engine={spec.name!r} cannot run task {type(task).__name__}; it runs on {names}")
    try:
        return spec.build(task)
    except ConfigurationError as error:
        others = [each.name for each in fitting if each != spec]
        if not others:
            raise
        raise ConfigurationError(
            f"{str(error).rstrip('.')}; the task also names engine={' or '.join(others)}"
        ) from error
