"""Goals that a person sets: by a place in the scene, by numbers, or drawn by the task."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float

from kilolayer.envs import Environment, MazeTask
from kilolayer.envs.divergence import LARGEST
from kilolayer.envs.drawing import mark_of
from kilolayer.envs.names import entry_names

DRAWN = 64
"""Goals that are drawn at a time."""

SMALL = 1 / 64
"""Change of an entry of a goal that shows how the mark moves with it; float32 has it exactly."""

STILL = 1e-3
"""Metres that the mark moves for one unit of an entry, below which it stays."""

NEWTON_STEPS = 2
"""Steps towards a place: one would do for a mark that moves evenly, but for rounding."""


class Goals:
    """Goals of one environment: those that its task draws, and how their numbers move the mark in the scene."""

    def __init__(self, environment: Environment, seed: int):
        """Draw the first goals.

        Args:
            environment: whose goals they are.
            seed: of the goals.
        """
        self._task, self._environment = environment.task, environment
        self._key, self._calls = jax.random.key(seed), 0
        self._draw = jax.jit(lambda key, call: environment.draw(jax.random.fold_in(key, call), DRAWN)[1])
        self._waiting: list[np.ndarray] = []
        self.sample = self._more()
        """Goals as the task draws them."""
        low, high = self.sample.min(axis=0), self.sample.max(axis=0)
        size = high - low
        spread = 0.25 * np.where(size > 1e-6, size, size.max() if size.max() > 1e-6 else 4.0)
        self.low, self.high = low - spread, high + spread
        """Range of each entry for a slider: somewhat more than what the task draws."""

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each entry, with its unit."""
        return entry_names(self._task, "goal") or tuple(f"goal {number}" for number in range(len(self.low)))

    def drawn(self) -> Float[np.ndarray, " goal"]:
        """Return a goal drawn by the task."""
        if not self._waiting:
            self._more()
        return self._waiting.pop()

    def inside(self, goal: Float[np.ndarray, " goal"]) -> Float[np.ndarray, " goal"]:
        """Return a goal whose place is inside the outer walls, if the task is a maze."""
        if not isinstance(self._task, MazeTask):
            return goal
        maze = self._task.maze
        low, high = (
            np.asarray(end, goal.dtype) * maze.cell_size for end in (maze.free_cells.min(0), maze.free_cells.max(0))
        )
        half = 0.5 * maze.cell_size
        return np.concatenate([np.clip(goal[:2], low - half, high + half), goal[2:]]).astype(goal.dtype)

    def moved(self, goal: Float[np.ndarray, " goal"], place: Float[np.ndarray, "3"]) -> Float[np.ndarray, " goal"]:
        """Return a goal whose mark is at a place, as far as its entries can move it there.

        Args:
            goal: as it is now.
            place: x, y, z in metres.
        """
        for _ in range(NEWTON_STEPS):
            mark = mark_of(self._task, goal)
            if mark is None:
                break
            change = np.linalg.pinv(self._slopes(goal), rcond=STILL) @ (place - np.asarray(mark[0], np.float64))
            goal = (goal + change).astype(goal.dtype)
        return goal

    def axes(self, goal: Float[np.ndarray, " goal"]) -> Bool[np.ndarray, "3"]:
        """Return along which of x, y, z the mark can be moved; along none without a mark."""
        if mark_of(self._task, goal) is None:
            return np.zeros(3, bool)
        return np.abs(self._slopes(goal)).max(axis=1) > STILL

    def _slopes(self, goal: Float[np.ndarray, " goal"]) -> Float[np.ndarray, "3 goal"]:
        """Return how the mark moves with each entry."""

        def at(number: int, change: float) -> Any:
            other = np.array(goal)
            other[number] += change
            mark = mark_of(self._task, other)
            return np.zeros(3) if mark is None else np.array(mark[0], np.float64)

        columns = [(at(number, SMALL) - at(number, -SMALL)) / (2 * SMALL) for number in range(len(goal))]
        return np.stack(columns, axis=1)

    def _more(self) -> Float[np.ndarray, "goals goal"]:
        self._calls += 1
        found = np.asarray(self._draw(self._key, self._calls))
        self._waiting = list(found)
        return found


def is_goal(numbers: Any, size: int) -> bool:
    """Return whether a list is a goal: as many finite numbers as it has entries, none of them beyond all bounds."""
    return len(numbers) == size and all(abs(number) < LARGEST for number in numbers)
