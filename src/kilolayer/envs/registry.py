"""The registry: environments by name, each with the training settings that suit it."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kilolayer.envs.engines import PointEngine
from kilolayer.envs.environment import Environment
from kilolayer.envs.maze import LAYOUTS, Maze
from kilolayer.envs.tasks import PointMaze
from kilolayer.errors import ConfigurationError, nearest_names


@dataclasses.dataclass(frozen=True)
class EnvironmentSpec:
    """An entry of the registry."""

    name: str
    summary: str
    """One line for lists."""
    make: Callable[[int], Environment]
    """Builds the environment; takes the episode length in steps."""
    episode_length: int = 1000
    """Steps in an episode, unless asked otherwise."""
    eval_env: str | None = None
    """The environment that agents trained here are evaluated on; None for this one."""
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Training settings that differ from the paper's, by the field names of `TrainConfig`."""


_REGISTRY: dict[str, EnvironmentSpec] = {}


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


def names() -> list[str]:
    """Return the names of all registered environments."""
    return list(_REGISTRY)


def spec(name: str) -> EnvironmentSpec:
    """Return the entry called `name`.

    `name` may also be a maze as text (several lines): a point maze of the user's own.

    Raises:
        ConfigurationError: if there is none of that name; the line names the nearest.
    """
    if "\n" in name:
        return _point_maze("point_maze", name, f"point in a maze of {len(name.strip().splitlines())} lines", None)
    if name not in _REGISTRY:
        raise ConfigurationError(f"env {name!r} is unknown; {nearest_names(name, _REGISTRY)}")
    return _REGISTRY[name]


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


def make(name: str, *, episode_length: int | None = None) -> Environment:
    """Build the environment called `name`, the path of a maze file, or a maze as text.

    Args:
        name: a registered name, a path ending in `.txt`, or the lines of a maze.
        episode_length: steps in an episode; None takes the environment's own.

    Raises:
        ConfigurationError: for an unknown name, a maze that is none, or an episode length below one.
    """
    entry = spec(resolve(name))
    return entry.make(entry.episode_length if episode_length is None else episode_length)


POINT_MAZE_TRAINING: Mapping[str, Any] = {
    "total_env_steps": 1_600_000,
    "num_envs": 128,
    "batch_size": 256,
    "width": 128,
    "episode_length": 200,
    "unroll_length": 50,
    "gradient_steps_per_unroll": 64,
    "replay_capacity": 2000,
    "min_replay": 200,
    "num_evals": 16,
    "crl": {"loss": "infonce_symmetric"},
}
"""Sized for two CPU cores."""


def _point_maze(name: str, layout: str, summary: str, eval_env: str | None) -> EnvironmentSpec:
    def build(episode_length: int) -> Environment:
        maze = Maze(layout)
        engine = PointEngine(maze)
        task = PointMaze(maze, clearance=engine.radius)
        return Environment(name=name, task=task, engine=engine, episode_length=episode_length)

    return EnvironmentSpec(
        name=name,
        summary=summary,
        make=build,
        episode_length=POINT_MAZE_TRAINING["episode_length"],
        eval_env=eval_env,
        training=POINT_MAZE_TRAINING,
    )


def _register_point_mazes() -> None:
    for layout, text in LAYOUTS.items():
        name, far = (layout.removesuffix("_eval"), "_eval") if layout.endswith("_eval") else (layout, "")
        register(
            _point_maze(
                f"point_{name}_maze{far}",
                text,
                f"point in the {name} maze{', far goals only' if far else ''}",
                f"point_{name}_maze_eval" if f"{name}_eval" in LAYOUTS else None,
            )
        )


_register_point_mazes()
