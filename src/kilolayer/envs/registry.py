"""The registry: environments by name, each with the training settings that suit it."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kilolayer.envs.engines import default_engine, make_engine
from kilolayer.envs.environment import Engine, Environment, Task
from kilolayer.envs.mazes.maze import Maze
from kilolayer.envs.robot_task import Variant as Variant
from kilolayer.envs.robot_task import check_variant
from kilolayer.errors import ConfigurationError, nearest_names


@dataclasses.dataclass(frozen=True)
class EnvironmentSpec:
    """An entry of the registry."""

    name: str
    summary: str
    """One line for lists."""
    task: Callable[..., Task]
    """Builds the task; called with `variant=...` if there is a variant of the paper, else with nothing."""
    episode_length: int = 1000
    """Steps in an episode, unless asked otherwise."""
    eval_env: str | None = None
    """The environment that agents trained here are evaluated on; None for this one."""
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Training settings that differ from the paper's, by the field names of `TrainConfig`."""
    paper_engine: str | None = None
    """The engine of the published numbers; None if the task has no variant of the paper."""
    paper_training: Mapping[str, Any] | None = None
    """Training settings of the paper's variant; None if they are the same."""
    engine: Callable[[str, Task], Engine] = make_engine
    """Builds the engine from its name."""

    def make_task(self, variant: str = "default") -> Task:
        """Build the task.

        Raises:
            ConfigurationError: if it has no such variant.
        """
        check_variant(variant)
        if self.paper_engine is not None:
            return self.task(variant=variant)
        if variant == "paper":
            raise ConfigurationError(f"env {self.name!r} has no variant 'paper'; leave variant at 'default'")
        return self.task()

    def engine_name(self, engine: str, variant: str) -> str:
        """Return which engine `engine` means here: for `auto` the paper's, or the one that suits the machine."""
        if engine != "auto":
            return engine
        if variant == "paper" and self.paper_engine is not None:
            return self.paper_engine
        return default_engine(self.make_task(variant).engines)


Family = Callable[[str], EnvironmentSpec | None]
"""Reads a name that stands for one of many environments, and returns its entry, or None if it is no such name."""

_REGISTRY: dict[str, EnvironmentSpec] = {}
_FAMILIES: list[Family] = []


def register(spec: EnvironmentSpec) -> None:
    """Add an environment under its name.

    Raises:
        ConfigurationError: if the name is taken.
    """
    if spec.name in _REGISTRY:
        raise ConfigurationError(f"an environment named {spec.name!r} is registered already")
    _REGISTRY[spec.name] = spec


def unregister(name: str) -> None:
    """Remove an environment from the registry."""
    _REGISTRY.pop(name, None)


def register_family(family: Family) -> None:
    """Add names that need not be listed one by one."""
    _FAMILIES.append(family)


def names() -> list[str]:
    """Return the names of all registered environments."""
    return list(_REGISTRY)


def spec(name: str) -> EnvironmentSpec:
    """Return the entry called `name`.

    `name` may also be a maze as text (several lines): a point maze of the user's own.

    Raises:
        ConfigurationError: if there is none of that name; the line names the nearest.
    """
    if name in _REGISTRY:
        return _REGISTRY[name]
    for family in _FAMILIES:
        if (found := family(name)) is not None:
            return found
    raise ConfigurationError(f"env {name!r} is unknown; {nearest_names(name, _REGISTRY)}")


def resolve(name: str) -> str:
    """Return the maze text if `name` is the path of a maze file (`*.txt`), and `name` itself otherwise.

    Raises:
        ConfigurationError: if the file cannot be read or holds no maze.
    """
    if not name.endswith(".txt") or "\n" in name:
        return name
    try:
        text = Path(name).read_text(encoding="utf-8")
        Maze(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"maze file {name!r} cannot be read: {error}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from error
    return text.rstrip("\n") + "\n"


def make(
    name: str, *, episode_length: int | None = None, engine: str = "auto", variant: str = "default"
) -> Environment:
    """Build the environment called `name`, the path of a maze file, or a maze as text.

    Args:
        name: a registered name, a path ending in `.txt`, or the lines of a maze.
        episode_length: steps in an episode; None takes the environment's own.
        engine: how the world moves; `auto` takes what suits the machine, or the paper's for the variant `paper`.
        variant: `default`, or `paper` for all that the published numbers depend on.

    Raises:
        ConfigurationError: for an unknown name, a maze that is none, an episode length below one, or an engine or
            variant that the environment does not have.
    """
    entry = spec(resolve(name))
    task = entry.make_task(variant)
    return Environment(
        name=entry.name,
        task=task,
        engine=entry.engine(entry.engine_name(engine, variant), task),
        episode_length=entry.episode_length if episode_length is None else episode_length,
    )
