"""What this machine offers to a process."""

import os

from kilolayer.errors import ConfigurationError


def cpu_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_float32() -> None:
    """Check that JAX computes in float32, as runs and policies do.

    Raises:
        ConfigurationError: if it computes in float64.
    """
    import jax

    if jax.config.read("jax_enable_x64"):
        raise ConfigurationError("JAX_ENABLE_X64 is on, and runs and policies are in float32; turn it off")
