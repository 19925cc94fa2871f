"""What pictures show of an environment: a model in its pose, and what a goal looks like.

A task says both; where a task has no model, its engine may have one. No class has to be derived from.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, cast, runtime_checkable

import mujoco
import numpy as np
from jaxtyping import Array, Float

from kilolayer.errors import ConfigurationError

Mark = tuple[Float[np.ndarray, "3"], float]
"""Position and radius of the mark that shows a goal, in metres."""

Pose = tuple[Float[np.ndarray, "3"], Float[np.ndarray, "4"]]
"""Position in metres, and quaternion w, x, y, z."""


@dataclasses.dataclass(frozen=True)
class Ghost:
    """A goal of joints or of poses: the robot, or some of its bodies, drawn see-through where the goal has them."""

    qpos: Float[np.ndarray, " nq"] | None = None
    """Joint positions of the drawn model in MuJoCo's order; entries that are NaN are those at the start."""
    bodies: tuple[str, ...] = ()
    """With `qpos`: names of the bodies to draw; empty for all that can move."""
    poses: Mapping[str, Pose] = dataclasses.field(default_factory=dict)
    """Bodies by name, each drawn in a pose with everything that hangs on it, the joints below it as at the start."""


@runtime_checkable
class Drawable(Protocol):
    """A task, or an engine, that films and 3-D pages can show."""

    def scene(self) -> mujoco.MjSpec:
        """Return the model to draw, as MuJoCo's editable specification."""
        ...

    def scene_qpos(self, physics: Any) -> Float[Array, "*num_envs nq"]:
        """Return the joint positions of that model in MuJoCo's order."""
        ...


class DrawsGoals(Protocol):
    """What a task may define beside, to say what its goals look like. Without either, nothing marks a goal."""

    def marker(self, desired_goal: Float[np.ndarray, " goal"]) -> Mark | None:
        """Return position and radius of the mark that shows a goal; None for no mark."""
        ...

    def ghost(self, desired_goal: Float[np.ndarray, " goal"]) -> Ghost | None:
        """Return the robot as the goal has it; None for none."""
        ...


def find_drawable(task: Any, engine: Any) -> Drawable | None:
    """Return what can be drawn of an environment: its task, else its engine, else None."""
    for one in (task, engine):
        if all(callable(getattr(one, method, None)) for method in ("scene", "scene_qpos")):
            return cast(Drawable, one)
    return None


def drawable_of(task: Any, engine: Any) -> Drawable:
    """Return what can be drawn of an environment: its task, or else its engine.

    Raises:
        ConfigurationError: if neither has a model to draw.
    """
    found = find_drawable(task, engine)
    if found is None:
        raise ConfigurationError(
            f"task {type(task).__name__} has no body to draw; define `scene` and `scene_qpos` in it or in its engine, "
            "or derive it from RobotTask"
        )
    return found


def has_body(task: Any, engine: Any) -> bool:
    """Return whether a picture shows a robot; a task whose model only stands for a place says `has_body = False`."""
    return find_drawable(task, engine) is not None and bool(getattr(task, "has_body", True))


def mark_of(task: Any, desired_goal: Float[np.ndarray, " goal"]) -> Mark | None:
    """Return the mark of a goal, or None if the task draws none."""
    marker = getattr(task, "marker", None)
    return None if marker is None else marker(desired_goal)


def ghost_of(task: Any, desired_goal: Float[np.ndarray, " goal"]) -> Ghost | None:
    """Return the robot as a goal has it, or None if the task does not say."""
    ghost = getattr(task, "ghost", None)
    return None if ghost is None else ghost(desired_goal)
