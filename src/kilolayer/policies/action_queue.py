"""A queue of the actions that a policy chose at once, to hand them out one call after another."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from kilolayer.errors import ConfigurationError


class ActionQueue:
    """Hands out the actions of chunks, for one robot or a batch of them, each in its own phase.

    Attributes:
        action_chunk: actions of a chunk.
    """

    def __init__(self, action_chunk: int):
        """Begin without actions; a chunk has `action_chunk` of them."""
        self.action_chunk = action_chunk
        self._actions: np.ndarray | None = None
        self._phase: np.ndarray | None = None

    def next(self, batch: tuple[int, ...], choose: Callable[[], np.ndarray]) -> Float[np.ndarray, "*batch action"]:
        """Return the next action of every robot.

        Args:
            batch: leading axes of the robots. A queue that held another batch begins anew.
            choose: returns new chunks for all robots, `(*batch, action_chunk * action)`. It is called if at least one
                robot has no action left, and only those robots take theirs.
        """
        if self.action_chunk == 1:
            return choose()
        if self._phase is None or self._actions is None or self._phase.shape != batch:
            self._phase, self._actions = np.zeros(batch, int), None
        due = self._phase == 0
        if due.any():
            chosen = choose().reshape(*batch, self.action_chunk, -1)
            self._actions = chosen if self._actions is None else np.where(due[..., None, None], chosen, self._actions)
        assert self._actions is not None
        action = np.take_along_axis(self._actions, self._phase[..., None, None], axis=-2)[..., 0, :]
        self._phase = (self._phase + 1) % self.action_chunk
        return action

    def reset(self, ended: Bool[np.ndarray, "*batch"] | ArrayLike | None = None) -> None:
        """Forget the actions that are left: of all robots, or of those whose episode ended.

        Raises:
            ConfigurationError: if `ended` has not the leading axes of the last call.
        """
        if ended is None or self._phase is None:
            self._phase = self._actions = None
            return
        mask = np.asarray(ended, bool)
        if mask.shape != self._phase.shape:
            raise ConfigurationError(
                f"ended has shape {mask.shape}; the robots of the last call are {self._phase.shape}"
            )
        self._phase = np.where(mask, 0, self._phase)
