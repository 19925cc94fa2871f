"""A data set: episodes one behind the other, checked, and as the replay buffer that agents learn from."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from kilolayer.data.ring_buffer import ReplayBuffer
from kilolayer.errors import ConfigurationError
from kilolayer.settings import MOST_STEPS

LARGEST_ACTION = 1.0 + 1e-4
"""Actions beyond are refused; those up to it are clipped to [-1, 1], because float32 rounds."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Episodes, one behind the other: of each, the states that it went through and the actions between them.

    An episode of n actions has n + 1 rows, one for each state. No action follows its last state, so that the action of
    that row means nothing.
    """

    observation: np.ndarray
    """What the agent saw: `(rows, observation)`."""
    action: np.ndarray
    """What it did then, from -1 to 1: `(rows, action)`."""
    last: np.ndarray
    """The row is the last of its episode: booleans, `(rows,)`."""
    failed: np.ndarray
    """The task failed in this state, which is the last of its episode."""
    achieved_goal: np.ndarray | None = None
    """The goal that the state amounts to, `(rows, goal)`; None where the data do not tell."""
    desired_goal: np.ndarray | None = None
    """The goal that was to be reached; None where the data do not tell."""
    environment: str | None = None
    """The environment that they come from, as this library calls it; None where the data do not tell."""

    @property
    def rows(self) -> int:
        """States of all episodes."""
        return len(self.last)

    @property
    def episodes(self) -> int:
        """Episodes."""
        return int(self.last.sum())

    @property
    def steps(self) -> int:
        """Actions that were taken."""
        return self.rows - self.episodes

    @property
    def starts(self) -> np.ndarray:
        """The first row of each episode."""
        return np.concatenate([[0], np.flatnonzero(self.last)[:-1] + 1])

    @property
    def goal(self) -> np.ndarray:
        """The desired goal of each row; where the data tell none, what its episode achieved last."""
        if self.desired_goal is not None:
            return self.desired_goal
        assert self.achieved_goal is not None
        ends = np.flatnonzero(self.last)
        return np.repeat(self.achieved_goal[ends], np.diff(ends, prepend=-1), axis=0)

    def checked(self, where: str) -> "Dataset":
        """Return the same data in float32, with actions within [-1, 1], or say what is wrong with them.

        Args:
            where: the data set, for messages.

        Raises:
            ConfigurationError: in one line.
        """
        arrays = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        for name, array in arrays.items():
            if len(array) != len(self.observation):
                raise ConfigurationError(
                    f"{where}: {name} has {len(array)} rows and observation has {len(self.observation)}; all arrays "
                    "need as many"
                )
        if self.rows == 0:
            raise ConfigurationError(f"{where} is empty: it has no rows")
        if self.rows > MOST_STEPS:
            raise ConfigurationError(f"{where} has {self.rows:,} rows; at most {MOST_STEPS:,} can be counted")
        _check_episodes(where, self.last)
        numbers = {
            name: _numbers(where, name, array) for name, array in arrays.items() if name not in ("last", "failed")
        }
        for name, array in numbers.items():
            meaningful = ~self.last[:, None] | (name != "action")
            bad = ~(np.isfinite(array) | ~meaningful).all(axis=1)
            if bad.any():
                row = int(np.argmax(bad))
                raise ConfigurationError(f"{where}: {name}[{row}] is not finite: {array[row].tolist()}")
        action = np.where(self.last[:, None], np.float32(0.0), numbers["action"])
        beyond = np.abs(action).max(axis=1) > LARGEST_ACTION
        if beyond.any():
            row = int(np.argmax(beyond))
            raise ConfigurationError(
                f"{where}: action[{row}] is {action[row].tolist()}, and actions are from -1 to 1; scale them"
            )
        numbers["action"] = np.clip(action, -1.0, 1.0)
        return Dataset(**numbers, last=self.last, failed=self.failed, environment=self.environment)

    def to_buffer(self) -> ReplayBuffer:
        """Return the data as a replay buffer of one ring, which holds them exactly.

        The last row of an episode is a goal and a next state, and never a step of its own: what was done then is not
        known. Of an episode that failed it is left out, as nothing follows a failure.
        """
        assert self.achieved_goal is not None
        kept = ~self.failed
        before_failure = np.concatenate([self.failed[1:], [False]])
        number = np.cumsum(self.last) - self.last
        return ring_of(
            observation=self.observation[kept],
            achieved_goal=self.achieved_goal[kept],
            desired_goal=self.goal[kept],
            action=self.action[kept],
            terminated=before_failure[kept],
            diverged=self.last[kept],
            episode=number[kept],
        )


def ring_of(*, episode: np.ndarray, **arrays: np.ndarray) -> ReplayBuffer:
    """Return a replay buffer of one ring that is full of given rows.

    Args:
        episode: the number of each row's episode, from 0 on without gaps.
        arrays: the other fields of a row, in the order of time.
    """
    rows = len(episode)
    last_time = np.full(rows, -1, np.int32)
    last_time[episode] = np.arange(rows, dtype=np.int32)  # of equal numbers, the last one counts
    fields: dict[str, Any] = {name: jnp.asarray(array)[:, None] for name, array in arrays.items()}
    return ReplayBuffer(
        **fields,
        episode=jnp.asarray(episode, jnp.int32)[:, None],
        last_time=jnp.asarray(last_time)[:, None],
        open_episode=jnp.asarray([episode[-1] + 1], jnp.int32),
        num_steps=jnp.asarray(rows, jnp.int32),
    )


def _check_episodes(where: str, last: np.ndarray) -> None:
    """Check that the last row ends an episode, and that none has a single row."""
    if not last[-1]:
        raise ConfigurationError(f"{where}: the last row does not end an episode; the file was cut short")
    lengths = np.diff(np.flatnonzero(last), prepend=-1)
    if (lengths < 2).any():
        raise ConfigurationError(
            f"{where}: episode {int(np.argmax(lengths < 2))} has a single row; an action leads from one row to the next"
        )


def _numbers(where: str, name: str, array: np.ndarray) -> np.ndarray:
    """Return rows of numbers in float32."""
    if array.ndim != 2 or array.shape[1] == 0:
        raise ConfigurationError(f"{where}: {name} has shape {list(array.shape)}; it needs rows and columns")
    if array.dtype.kind != "f":
        raise ConfigurationError(
            f"{where}: {name} is {array.dtype}; it needs floating-point numbers, which pixels and choices are not"
        )
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        return array.astype(np.float32, copy=False)
