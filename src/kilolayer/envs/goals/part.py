"""What a goal is made of: the base class of ready-made goals."""

import abc
import math
from typing import Any

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs.drawing import Ghost, Mark
from kilolayer.envs.robot_state import RobotState
from kilolayer.envs.tracking import Tracking
from kilolayer.errors import ConfigurationError


class Goal(abc.ABC):
    """Something to reach, as a part of a goal vector: which entries it has, how they are read, when they are reached.

    A task takes one, or several side by side: `goal = PositionGoal("palm", radius=0.05)`. Derive from it for a goal of
    your own.
    """

    @property
    def places(self) -> tuple[str, ...]:
        """Names of the bodies and sites that are read."""
        return ()

    @abc.abstractmethod
    def names(self, task: Tracking) -> tuple[str, ...]:
        """Return the name of each entry, with its unit."""

    @abc.abstractmethod
    def read(self, task: Tracking, state: RobotState) -> Float[Array, " entries"]:
        """Return the entries that a state achieves."""

    @abc.abstractmethod
    def errors(
        self, task: Tracking, achieved: Float[Array, " entries"], desired: Float[Array, " entries"]
    ) -> Float[Array, " errors"]:
        """Return how far apart two goals are, each number as a share of its radius: below 1 is reached."""

    @abc.abstractmethod
    def text(self, task: Tracking) -> str:
        """Return when it is reached, in words, such as `palm within 0.05 m`."""

    def check(self, task: Tracking) -> None:
        """Check that it fits the model of a task.

        Raises:
            ConfigurationError: naming what does not fit.
        """
        del task

    def draw(self, task: Tracking, key: PRNGKeyArray) -> Float[Array, " entries"] | None:
        """Draw entries; None if they are to be those of a pose that the robot can take (`reachable`)."""
        del task, key
        return None

    def mark(self, task: Tracking, desired: Float[np.ndarray, " entries"]) -> Mark | None:
        """Return position and radius, in metres, of the mark that shows it in pictures; None for no mark."""
        del task, desired
        return None

    def ghost(self, task: Tracking, desired: Float[np.ndarray, " entries"]) -> Ghost | None:
        """Return the robot, or a part of it, as the goal has it, for pictures; None for none."""
        del task, desired
        return None


def check_radius(goal: Goal, name: str, value: Any, unit: str) -> float:
    """Return a radius of success.

    Args:
        goal: whose radius it is.
        name: of the argument.
        value: what was given.
        unit: in words, such as `metres`.

    Raises:
        ConfigurationError: if it is not a number above 0.
    """
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not is_number or not 0.0 < float(value) < math.inf:
        raise ConfigurationError(f"{type(goal).__name__}: {name}={value!r} must be a number of {unit} above 0")
    return float(value)


def check_axes(goal: Goal, axes: Any) -> str:
    """Return the axes that count.

    Raises:
        ConfigurationError: if they are not some of x, y, z in this order.
    """
    ordered = isinstance(axes, str) and axes != "" and axes == "".join(axis for axis in "xyz" if axis in axes)
    if not ordered:
        raise ConfigurationError(f"{type(goal).__name__}: axes={axes!r} must be some of 'xyz', in this order")
    return str(axes)
