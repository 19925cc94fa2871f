"""What a person can do to a robot that is shown live, as plain data from a page."""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from kilolayer.errors import ConfigurationError
from kilolayer.render.play.goals import is_goal

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Times as fast as it would be."""

MOST_STEPS = 1000
"""Steps that can be asked for at once."""


class Controls:
    """Reads controls and refuses what is none: `goal`, `place`, `new_goal`, `keep_goal`, `actions`, `speed`, `paused`,
    `steps` and `reset`.
    """

    def __init__(self, goal_size: int, actions: Sequence[str]):
        """Prepare for an environment.

        Args:
            goal_size: entries of a goal.
            actions: what can choose the actions.
        """
        self._readers: dict[str, Callable[[Any], Any]] = {
            "goal": lambda value: _numbers(value, goal_size),
            "place": lambda value: _numbers(value, 3),
            "new_goal": _true,
            "keep_goal": _truth,
            "actions": lambda value: _one_of(value, actions),
            "speed": lambda value: float(_one_of(value, SPEEDS)),
            "paused": _truth,
            "steps": _steps,
            "reset": _true,
        }

    def read(self, given: Any) -> dict[str, Any]:
        """Return controls that are in order.

        Args:
            given: an object of JSON: `goal`, the numbers of the desired goal; `place`, x, y, z of its mark; `new_goal`,
                true for one drawn by the task; `keep_goal`, whether it outlives the episode; `actions`; `speed`;
                `paused`; `steps`, how many to take while paused; `reset`, true for a new episode.

        Raises:
            ConfigurationError: in one line, if one is unknown or not valid.
        """
        if not isinstance(given, dict) or not given:
            raise ConfigurationError(f"controls must be an object with some of {', '.join(self._readers)}")
        found = {}
        for name, value in given.items():
            if name not in self._readers:
                raise ConfigurationError(f"control {name!r} is unknown; there are {', '.join(self._readers)}")
            try:
                found[name] = self._readers[name](value)
            except _WrongError as error:
                raise ConfigurationError(f"{name}={_short(value)} must be {error}") from None
        return found


def parse(text: bytes) -> Any:
    """Return JSON in UTF-8 as plain data.

    Raises:
        ConfigurationError: if it is none, or holds NaN or infinity.
    """
    try:
        return json.loads(text.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ConfigurationError("the body must be JSON in UTF-8, without NaN and infinity") from None


class _WrongError(Exception):
    """A value that is not valid; the message says what would be."""


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)


def _is_finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond floating point
        return False


def _numbers(value: Any, size: int) -> list[float]:
    if not isinstance(value, list) or not all(map(_is_number, value)) or not is_goal(value, size):
        raise _WrongError(f"a list of {size} finite number{'' if size == 1 else 's'}")
    return [float(number) for number in value]


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _WrongError("true or false")
    return value


def _true(value: Any) -> bool:
    if value is not True:
        raise _WrongError("true")
    return True


def _one_of(value: Any, choices: Sequence[Any]) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or value not in choices:
        raise _WrongError(f"one of {', '.join(map(str, choices))}")
    return value


def _steps(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_STEPS:
        raise _WrongError(f"a whole number from 1 to {MOST_STEPS}")
    return value


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
