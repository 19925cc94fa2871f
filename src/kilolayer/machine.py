"""What this machine offers to a process."""

import functools
import os
import platform
import subprocess
from pathlib import Path

from kilolayer.errors import ConfigurationError


def cpu_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def cpu_model() -> str:
    """Return the name of the processor; its architecture where the system does not tell the name."""
    try:
        if platform.system() == "Darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            name = subprocess.run(command, capture_output=True, text=True, timeout=5.0, check=True).stdout.strip()
        else:
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, subprocess.SubprocessError, ValueError, StopIteration):
        name = ""
    return name or platform.processor() or platform.machine()


def check_float32() -> None:
    """Check that JAX computes in float32, as runs and policies do.

    Raises:
        ConfigurationError: if it computes in float64.
    """
    import jax

    if jax.config.read("jax_enable_x64"):
        raise ConfigurationError("JAX_ENABLE_X64 is on, and runs and policies are in float32; turn it off")
