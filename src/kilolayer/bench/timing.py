"""Time calls, and the stages of compiling a program."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Program(NamedTuple):
    """A compiled program, and what compiling it took."""

    compiled: Any
    trace_seconds: float
    """Time to trace and lower the Python function."""
    compile_seconds: float
    """Time of the compiler."""


def compile_program(function: Any, *arguments: Any) -> Program:
    """Compile a jitted function for these arguments and time both stages.

    Args:
        function: what `jax.jit` returned.
        arguments: arrays, or shapes as `jax.eval_shape` returns them.
    """
    began = time.perf_counter()
    lowered = function.lower(*arguments)
    traced = time.perf_counter()
    compiled = lowered.compile()
    return Program(compiled, traced - began, time.perf_counter() - traced)


def seconds_of(run: Callable[..., object], *arguments: object) -> float:
    """Call a function, which must wait for its own arrays, and return the seconds that this took."""
    began = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - began
