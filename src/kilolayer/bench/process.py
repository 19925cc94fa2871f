"""Run a measurement in a process of its own, so that its peak memory and its threads are its own."""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import jax

from kilolayer.errors import KilolayerError
from kilolayer.machine import cpu_cores

MARK = "kilolayer-bench-result:"
"""Begins the line of output that holds the result."""

ONE_CORE = "KILOLAYER_BENCH_ONE_CORE"
"""Environment variable that binds a process to one core."""


def run_apart(
    function: str,
    arguments: Mapping[str, Any],
    *,
    environment: Mapping[str, str] | None = None,
    one_core: bool = False,
) -> Any:
    """Call a function in a new process and return its result.

    Args:
        function: as `module:name`.
        arguments: its keyword arguments, plain data.
        environment: variables to set in that process.
        one_core: bind the process to one core, where the platform can.

    Returns:
        What the function returned, as plain data.

    Raises:
        KilolayerError: if the process fails; one line says why.
    """
    command = [sys.executable, "-m", __name__, function, json.dumps(dict(arguments))]
    # Programs must not come from the cache on disk while compiling is timed.
    settings = (
        os.environ
        | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
        | dict(environment or {})
        | ({ONE_CORE: "1"} if one_core else {})
    )
    process = subprocess.run(command, env=settings, capture_output=True, text=True)
    for line in process.stdout.splitlines():
        if line.startswith(MARK):
            return json.loads(line.removeprefix(MARK))
    if process.returncode == -signal.SIGKILL:
        reason = "it was killed, which happens when memory runs out"
    else:
        reason = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    what = ", ".join(f"{name}={value}" for name, value in arguments.items())
    raise KilolayerError(f"the measurement of {what} failed: {reason}")


def peak_bytes() -> int:
    """Return the peak memory of the device, or on a CPU of this process."""
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def device_name() -> str:
    """Return the kind of the device, and for a CPU its number of cores."""
    device = jax.devices()[0]
    return device.device_kind if device.platform != "cpu" else f"{device.device_kind}, {cpu_cores()} cores"


if __name__ == "__main__":
    if ONE_CORE in os.environ and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before JAX starts its threads
    module, name = sys.argv[1].split(":")
    print(MARK + json.dumps(getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))))
