"""The registry of physics engines: one entry for each name that the setting `engine` accepts."""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax

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
    default_on_gpu: bool = False
    """On a GPU, `auto` selects this engine for tasks that list it."""


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


def default_engine(task_engines: Sequence[str]) -> str:
    """Return the engine that `auto` selects on this machine.

    Args:
        task_engines: engines that a task lists (`Task.engines`).

    Returns:
        On a GPU the first of them that is the default there; otherwise the first.
    """
    if jax.default_backend() != "cpu":
        for name in task_engines:
            if name in _ENGINES and _ENGINES[name].default_on_gpu:
                return name
    return task_engines[0]


def auto_engine(task: Task) -> str:
    """Return the engine that `auto` selects for a task on this machine.

    On a GPU this is not the default engine there if that one refuses the task's model, or needs a package that is not
    installed: then a warning says why, and the next engine of the task is taken.
    """
    name = default_engine(task.engines)
    others = [other for other in task.engines if other != name]
    if name not in _ENGINES or not _ENGINES[name].default_on_gpu or jax.default_backend() == "cpu" or not others:
        return name
    try:
        _ENGINES[name].build(task)
    except ConfigurationError as error:
        instead = default_engine(others)
        warnings.warn(f"{str(error).rstrip('.')}; engine={instead!r} runs the task instead", stacklevel=2)
        return instead
    return name


def engines_of(task: Task) -> list[EngineSpec]:
    """Return the registered engines that can run a task: in the task's order, then others that run the same tasks."""
    listed = [_ENGINES[name] for name in task.engines if name in _ENGINES]
    return listed + [spec for spec in _ENGINES.values() if spec not in listed and spec.same_tasks_as in task.engines]


def make_engine(name: str, task: Task) -> Engine:
    """Build an engine for a task.

    Args:
        name: a registered engine, or `auto`.
        task: the task whose robot the engine simulates.

    Raises:
        ConfigurationError: if the engine is unknown, does not run the task, or needs a package that is not installed.
    """
    spec = engine_spec(auto_engine(task) if name == AUTO else name)
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
