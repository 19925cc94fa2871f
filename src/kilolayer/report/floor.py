"""The critic's value on the floor of a maze, for a live view in which the goal moves."""

import threading

import numpy as np
from jaxtyping import Float

from kilolayer.envs import Environment, MazeTask
from kilolayer.policies import Policy
from kilolayer.report.maze import raster
from kilolayer.report.values import ValueMaps

PER_CELL = 5
"""Places along the edge of a cell; fewer than in a report, since somebody waits."""

PIXELS = 10
"""Pixels along the edge of a cell."""


class ValueFloor:
    """Computes the value of every spot of the floor, when it is first asked for and whenever the goal is another."""

    def __init__(self, policy: Policy, environment: Environment):
        """Keep what is needed; nothing is computed yet.

        Args:
            policy: its agent has a value.
            environment: its task is a `MazeTask`.
        """
        self._policy, self._environment = policy, environment
        self._maps: ValueMaps | None = None
        self._lock = threading.Lock()

    def __call__(self, goal: Float[np.ndarray, " goal"]) -> Float[np.ndarray, "rows columns"]:
        """Return the critic's relative value of every pixel, as `raster` has them; NaN for walls. Threads may call it.

        Args:
            goal: desired goal, whose first entries are x and y in metres.
        """
        task = self._environment.task
        assert isinstance(task, MazeTask)
        with self._lock:
            if self._maps is None:
                self._maps = ValueMaps(self._policy, self._environment, per_cell=PER_CELL)
            found = self._maps.of(np.asarray(goal, np.float64)[:2])
        return raster(task.maze, found.points, found.value, pixels_per_cell=PIXELS)


def value_floor(policy: Policy, environment: Environment) -> ValueFloor | None:
    """Return the critic's value of a maze's floor; None where there are no walls, or the agent has no critic."""
    fits = isinstance(environment.task, MazeTask) and policy.agent.has_value
    return ValueFloor(policy, environment) if fits else None
