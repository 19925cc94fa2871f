"""The forms in which a task may write its methods: short, or with more arguments, such as `control(action, state)`."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from kilolayer.errors import ConfigurationError

FORMS: Mapping[str, tuple[int, tuple[str, ...]]] = MappingProxyType(
    {
        "control": (1, ("action", "state", "memory")),
        "observe": (1, ("state", "memory", "key")),
        "achieved_goal": (1, ("state", "memory")),
        "current_goal": (2, ("state", "desired_goal", "memory")),
        "failed": (1, ("state", "memory")),
    }
)
"""How many arguments each method takes at least, and all that it may take, in this order."""


def arguments_of(name: str, function: Callable[..., Any]) -> int:
    """Return how many arguments a method takes.

    Args:
        name: of the method, one of `FORMS`.
        function: the method, bound to its task.

    Raises:
        ConfigurationError: if its arguments are none of the forms that it may have.
    """
    least, known = FORMS[name]
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return least
    count = 0
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            return max(count, least)
        is_positional = parameter.kind is not parameter.KEYWORD_ONLY
        if is_positional and (count < least or (count < len(known) and parameter.name == known[count])):
            count += 1
        elif parameter.default is parameter.empty:
            count = -1
            break
        else:
            break
    if count < least:
        forms = " or ".join(f"{name}({', '.join(known[:size])})" for size in range(least, len(known) + 1))
        owner = type(getattr(function, "__self__", None)).__name__
        found = ", ".join(parameter.name for parameter in parameters)
        raise ConfigurationError(f"task {owner}: {name}({found}) must be {forms}")
    return count


def in_full(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method as a function of all arguments that it may have; it is given those that it takes.

    Args:
        name: of the method, one of `FORMS`.
        function: the method, such as `task.control`, or `super().control` in a mixin.

    Raises:
        ConfigurationError: as `arguments_of`.
    """
    count = arguments_of(name, function)
    return lambda *arguments: function(*arguments[:count])


def check_passes_on(task: Any) -> None:
    """Check that no class of a task hides a mixin that wraps the classes below it.

    Such a mixin has `passes_on = True`. It is hidden by a class before it that has a method of the same name and does
    not call `super()`.

    Raises:
        ConfigurationError: naming both classes and the method.
    """
    classes = type(task).__mro__
    for method in ("control", "observe", "memory", "remember"):
        hiding = ""
        for cls in classes:
            member = vars(cls).get(method)
            if method not in vars(cls):
                continue
            passes_on = "passes_on" in vars(cls)
            if hiding and passes_on:
                raise ConfigurationError(
                    f"task {classes[0].__name__}: {method} of {hiding} hides that of {cls.__name__}; call "
                    f"super().{method} there, or derive again: class New({cls.__name__}, {hiding})"
                )
            code = getattr(inspect.unwrap(member), "__code__", None) if callable(member) else None
            if not passes_on and (code is None or "__class__" not in code.co_freevars):
                hiding = hiding or cls.__name__


def first_memory(memory: Any, state: Any, key: PRNGKeyArray) -> Any:
    """Return what one robot remembers at the start of an episode: a pytree of arrays, or None.

    Args:
        memory: `Task.memory`: None, a pytree, or a function of state and key.
        state: of the robot at the start of the episode.
        key: randomness.
    """
    return strong(memory(state, key) if callable(memory) else memory)


def strong(memory: Any) -> Any:
    """Return a pytree of arrays of fixed types: numbers of Python get JAX's types, so that steps do not change them."""

    def array(leaf: Any) -> Any:
        found = jnp.asarray(leaf)
        is_key = jnp.issubdtype(found.dtype, jax.dtypes.prng_key)
        return found if is_key else jax.lax.convert_element_type(found, found.dtype)

    return jax.tree.map(array, memory)
