"""The memory of a task as a dict to which mixins add their parts."""

from typing import Any

from jaxtyping import PRNGKeyArray

from kilolayer.envs.methods import first_memory
from kilolayer.envs.robot_state import RobotState
from kilolayer.errors import ConfigurationError


def memory_below(memory: Any, state: RobotState, key: PRNGKeyArray, *, mixin: type) -> dict[str, Any]:
    """Return what a task remembers at the start of an episode, to which a mixin adds its part.

    Args:
        memory: `super().memory` of the mixin.
        state: of the robot at the start.
        key: randomness.
        mixin: the class that asks.

    Raises:
        ConfigurationError: if it is not a dict.
    """
    found = first_memory(memory, state, key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigurationError(
            f"the memory of a task below {mixin.__name__} is a {type(found).__name__}; it must be a dict, so that "
            "others can add to it"
        )
    return found
