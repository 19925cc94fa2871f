"""Compiling ahead: programs compile in threads, side by side, while others already run.

A program that JAX has compiled for some shapes is not compiled again when it is called with them. So whoever calls it
waits for its thread first, and calls it as always; what a run computes does not change.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from kilolayer.machine import cpu_cores

Lower = Callable[[], jax.stages.Lowered]
"""Traces a program for the shapes that it will be called with."""


class Ahead:
    """Compiles programs in threads. Until `start`, and for a program that it does not know, `wait` does nothing."""

    def __init__(self) -> None:
        """Start without a thread."""
        self._pool: ThreadPoolExecutor | None = None
        self._tracing = threading.Lock()
        self._compiling: dict[str, Future] = {}

    def start(self, programs: Mapping[str, Lower]) -> None:
        """Begin to compile all programs, as many at once as there are cores beside that of the caller.

        Args:
            programs: by name, in the order in which they are needed.
        """
        workers = max(min(len(programs), cpu_cores() - 1), 1)
        self._pool = ThreadPoolExecutor(workers, "compile")
        self._compiling = {name: self._pool.submit(self._compile, lower) for name, lower in programs.items()}

    def wait(self, name: str) -> None:
        """Wait until a program is compiled; raise what its compilation raised."""
        found = self._compiling.pop(name, None)
        if found is not None:
            found.result()

    def shutdown(self) -> None:
        """End all threads: compilations that have begun are waited for, others do not begin."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _compile(self, lower: Lower) -> None:
        with self._tracing:  # tracing is Python, which runs one thread at a time: the first program is not held up
            lowered = lower()
        lowered.compile()


def shapes(tree: Any, device: jax.Device | None = None) -> Any:
    """Return shapes in place of arrays, for which the same program is compiled as for the arrays.

    Args:
        tree: of arrays, which may be consumed afterwards.
        device: where they will be; None leaves them where they are.
    """

    def shape(x: Any) -> jax.ShapeDtypeStruct:
        bound = x.sharding if getattr(x, "committed", False) else None
        where = bound if device is None else jax.sharding.SingleDeviceSharding(device)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where, weak_type=getattr(x, "weak_type", False))

    return jax.tree.map(shape, tree)
