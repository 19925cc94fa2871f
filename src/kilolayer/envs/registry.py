"""The registry of environments: one entry for each name that the setting `env` accepts."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from kilolayer.envs.engine_choice import choose_engine
from kilolayer.envs.engines import make_engine
from kilolayer.envs.engines.registry import AUTO
from kilolayer.envs.environment import Environment
from kilolayer.envs.interface import Engine, Task
from kilolayer.envs.mazes.maze import Maze
from kilolayer.envs.mazes.robot_line import split_robot, with_robot
from kilolayer.envs.robot_task import Variant as Variant
from kilolayer.envs.robot_task import check_variant
from kilolayer.envs.task_check import check_attributes
from kilolayer.errors import ConfigurationError, UnknownNameError, nearest_names
from kilolayer.user_code import is_rerun


@dataclasses.dataclass(frozen=True)
class EnvironmentSpec:
    """An entry of the registry."""

    name: str
    summary: str
    """One line for lists."""
    task: Callable[..., Task]
    """Build the task; called with `variant=...` if `paper_engine` is set, else without arguments."""
    episode_length: int = 1000
    """Default number of control steps in an episode."""
    eval_env: str | None = None
    """Environment in which agents trained here are evaluated; None for this one."""
    family: str = ""
    """Name shared by environments of one kind, such as `point_maze`; training presets can be registered for it."""
    paper_engine: str | None = None
    """Engine of the published numbers; None if the task has no variant `paper`."""
    engine: Callable[[str, Task], Engine] = make_engine
    """Build the engine from the setting `engine` and the task."""
    environment: Callable[..., Environment] = Environment
    """Join name, task, engine and episode length; a class derived from `Environment` steps in a way of its own."""

    def make_task(self, variant: str = "default") -> Task:
        """Build the task.

        Args:
            variant: `default` or `paper`.

        Raises:
            ConfigurationError: if the task does not have this variant, or an attribute of it is not valid.
        """
        check_variant(variant)
        if self.paper_engine is None and variant == "paper":
            raise ConfigurationError(f"env {self.name!r} has no variant 'paper'; leave variant at 'default'")
        task = self.task(variant=variant) if self.paper_engine is not None else self.task()
        check_attributes(task)
        return task

    def engine_name(self, engine: str, variant: str, num_envs: int | None = None) -> str:
        """Return the name of the engine to use.

        Args:
            engine: value of the setting `engine`; `auto` selects the paper's engine for the variant `paper`, and
                otherwise the one that suits the machine.
            variant: form of the task.
            num_envs: environments side by side. Given, engines are timed on a machine with a GPU the first time that
                it is asked; see `choose_engine`.
        """
        if engine != AUTO:
            return engine
        if variant == "paper" and self.paper_engine is not None:
            return self.paper_engine
        return choose_engine(self.make_task(variant), self.name, num_envs=num_envs, build=self.engine).engine


MazeRobot = Callable[[str], EnvironmentSpec]
"""Function from a maze, as text, to the entry of an environment with a robot in it."""

Family = Callable[[str], EnvironmentSpec | None]
"""Function from a name to the entry of a generated environment, or None if the name has another form."""

LISTING = "`kilolayer envs` lists them"
"""Where the names of environments are, for an error line."""

_REGISTRY: dict[str, EnvironmentSpec] = {}
_FAMILIES: list[Family] = []
_MAZE_ROBOTS: dict[str, MazeRobot] = {}

MAZE_ROBOT = "point"
"""The robot of mazes that name none."""


def register(spec: EnvironmentSpec) -> None:
    """Add an environment under its name.

    Raises:
        ConfigurationError: if the name is taken; a cell of a notebook may register its own again.
    """
    if not is_rerun("environment", spec.name) and spec.name in _REGISTRY:
        raise ConfigurationError(f"an environment named {spec.name!r} is already registered")
    _REGISTRY[spec.name] = spec


def unregister(name: str) -> None:
    """Remove an environment from the registry, if it is there."""
    _REGISTRY.pop(name, None)


def register_family(family: Family) -> None:
    """Add environments that are generated from their names, such as mazes with other distances.

    Args:
        family: returns the entry for a name, or None if the name is not one of the family.
    """
    _FAMILIES.append(family)


def register_maze_robot(robot: str, build: MazeRobot) -> None:
    """Add a robot that mazes given as text can have, such as `ant`.

    Args:
        robot: its name: letters, digits and underscores.
        build: returns the environment for a maze as text.

    Raises:
        ConfigurationError: if the name is taken; a cell of a notebook may register its own again.
    """
    if not is_rerun("maze robot", robot) and robot in _MAZE_ROBOTS:
        raise ConfigurationError(f"a maze robot named {robot!r} is already registered")
    _MAZE_ROBOTS[robot] = build


def maze_robots() -> list[str]:
    """Return the names of the robots that mazes given as text can have."""
    return list(_MAZE_ROBOTS)


def names() -> list[str]:
    """Return the names of all registered environments."""
    return list(_REGISTRY)


def spec(name: str) -> EnvironmentSpec:
    """Return the entry of an environment.

    Args:
        name: a registered name, a generated name, or a maze as text (several lines). A first line such as `robot: ant`
            names its robot; without one it is a point maze.

    Raises:
        ConfigurationError: if the name or the robot is unknown; the message lists similar names.
    """
    if name in _REGISTRY:
        return _REGISTRY[name]
    if "\n" in name:
        robot, maze = split_robot(name)
        return _maze_robot(robot or MAZE_ROBOT)(maze)
    for family in _FAMILIES:
        if (found := family(name)) is not None:
            return found
    raise UnknownNameError(f"env {name!r} is unknown; {nearest_names(name, _REGISTRY, listing=LISTING)}")


def _maze_robot(robot: str) -> MazeRobot:
    if robot not in _MAZE_ROBOTS:
        nearest = nearest_names(robot, _MAZE_ROBOTS, listing=f"there are {', '.join(_MAZE_ROBOTS)}")
        raise ConfigurationError(f"robot={robot!r} of a maze is unknown; {nearest}")
    return _MAZE_ROBOTS[robot]


def resolve(name: str, robot: str | None = None) -> str:
    """Return the text of the maze if `name` is the path of a maze file (`*.txt`), and `name` itself otherwise.

    Args:
        name: of an environment, a maze file, or a maze as text.
        robot: of the maze; None for the one that its first line names.

    Raises:
        ConfigurationError: if the file cannot be read or does not contain a valid maze, or there is no such robot, or
            one is given for an environment that is no maze as text.
    """
    text = _read_maze(name) if is_maze_file(name) else name
    if robot is None:
        return text
    if "\n" not in text:
        raise ConfigurationError(
            f"robot={robot!r} is for a maze file, such as my_maze.txt; env {name!r} has a robot already"
        )
    _maze_robot(robot)
    return with_robot(text, robot)


def is_maze_file(name: str) -> bool:
    """Return whether a name of an environment is the path of a maze file."""
    return name.endswith(".txt") and "\n" not in name


def _read_maze(name: str) -> str:
    try:
        text = Path(name).read_text(encoding="utf-8")
        robot, maze = split_robot(text)
        Maze(maze)
        if robot is not None:
            _maze_robot(robot)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from error
    except (OSError, ValueError) as error:  # no text in UTF-8, or a name that no file can have
        raise ConfigurationError(f"maze file {name!r} cannot be read: {error}") from error
    return text.rstrip("\n") + "\n"


def make(
    name: str,
    *,
    episode_length: int | None = None,
    engine: str = "auto",
    variant: str = "default",
    robot: str | None = None,
) -> Environment:
    """Build an environment.

    Args:
        name: a registered name, the path of a maze file (`*.txt`), or a maze as text.
        episode_length: control steps in an episode; None for the environment's default.
        engine: a registered engine; `auto` selects the one that suits the machine, or the paper's for the variant
            `paper`.
        variant: `default`, or `paper` for everything that the published numbers depend on.
        robot: for a maze file or a maze as text: the robot in it; None for the one that its first line names.

    Raises:
        ConfigurationError: if the name or the maze is invalid, the episode length is below 1, or the environment does
            not have the engine or variant.
    """
    entry = spec(resolve(name, robot))
    task = entry.make_task(variant)
    return entry.environment(
        name=entry.name,
        task=task,
        engine=entry.engine(entry.engine_name(engine, variant), task),
        episode_length=entry.episode_length if episode_length is None else episode_length,
    )
