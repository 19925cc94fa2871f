"""What the environment expects of an engine and of a task.

A task defines goals: its functions are pure and see one robot. An engine simulates: it steps all robots at once.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.envs.mazes.maze import Maze

Physics = Any
"""State of an engine: a pytree. In `Engine` every leaf has a leading axis over environments; a task sees one slice."""


@runtime_checkable
class Engine(Protocol):
    """A simulation of many robots at once."""

    def init(self, start: Any) -> Physics:
        """Return the physics state for a batch of starts, as drawn by the task."""
        ...

    def restart(self, physics: Physics, start: Any, where: Bool[Array, " num_envs"]) -> Physics:
        """Reset the robots selected by `where` to their starts and leave the others unchanged."""
        ...

    def step(self, physics: Physics, control: Float[Array, "num_envs control"]) -> Physics:
        """Advance every robot by one control step."""
        ...


@runtime_checkable
class Task(Protocol):
    """Goals for one robot, as pure functions. `physics` is one robot's slice of the engine's state.

    A task may also define `observation_names`, `goal_names` and `action_names`: one text for each entry, with its unit,
    such as `"torso z (m)"`; see `kilolayer.envs.names`. It may have a `memory` and `remember`; see `RobotTask`. Methods
    that are properties here may be written with fewer or more arguments (`kilolayer.envs.methods.FORMS`).
    """

    @property
    def observation_size(self) -> int:
        """Number of entries of an observation, without the goal."""
        ...

    @property
    def goal_size(self) -> int:
        """Number of entries of a goal."""
        ...

    @property
    def action_size(self) -> int:
        """Number of entries of an action, each in [-1, 1]."""
        ...

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of the engines that can run this task; the first is the default on a CPU."""
        ...

    def reset(self, key: PRNGKeyArray) -> tuple[Any, Float[Array, " goal"]]:
        """Draw the start of an episode and its goal."""
        ...

    @property
    def control(self) -> Callable[..., Any]:
        """Map an action to the engine's control: `control(action)`, with `physics` and `memory` if it needs them."""
        ...

    @property
    def observe(self) -> Callable[..., Float[Array, " observation"]]:
        """Return the observation: `observe(physics)`, with `memory`, and a `key` for noise, if it needs them."""
        ...

    @property
    def achieved_goal(self) -> Callable[..., Float[Array, " goal"]]:
        """Return the goal that this state achieves: `achieved_goal(physics)`, with `memory` if it needs it."""
        ...

    @property
    def current_goal(self) -> Callable[..., Float[Array, " goal"]]:
        """Return the desired goal after this step: unchanged, unless the task's goals move.

        It is `current_goal(physics, desired_goal)`, with `memory` if it needs it.
        """
        ...

    def success(self, achieved_goal: Float[Array, " goal"], desired_goal: Float[Array, " goal"]) -> Bool[Array, ""]:
        """Return whether the goal is reached."""
        ...

    def reward(self, achieved_goal: Float[Array, " goal"], desired_goal: Float[Array, " goal"]) -> Float[Array, ""]:
        """Return a reward, for reports and for agents that need one. CRL does not use it."""
        ...

    @property
    def failed(self) -> Callable[..., Bool[Array, ""]]:
        """Return whether the episode terminates here as a failure: `failed(physics)`, with `memory` if it needs it."""
        ...


@runtime_checkable
class MazeTask(Task, Protocol):
    """A task in a maze. The first two entries of a goal are x and y in metres."""

    @property
    def maze(self) -> Maze:
        """The maze: walls, start cells, goal cells."""
        ...

    @property
    def clearance(self) -> float:
        """Smallest possible distance of the robot's centre from a wall, in metres."""
        ...

    def observations_at(self, position: Float[Array, "2"]) -> Float[Array, "states observation"]:
        """Return observations of a few typical states at x, y; the value of a place is the mean of their values."""
        ...
