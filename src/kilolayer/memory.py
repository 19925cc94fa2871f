"""Memory: what arrays need, held against what the machine has, and what the process can give back."""

import ctypes
import functools
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kilolayer.errors import ConfigurationError

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files with the limit of a container."""


def tree_bytes(tree: Any) -> int:
    """Return the bytes of all arrays, or array shapes, in a tree."""
    import jax

    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape"))


@functools.cache
def device_memory() -> int | None:
    """Return the bytes of memory of the default device: a GPU's own, or the host's; None if it is unknown.

    It is the memory that the device has, not the memory that is free, so that the same run on the same machine computes
    the same bits each time.
    """
    import jax

    stats = jax.local_devices()[0].memory_stats() or {}
    return int(stats["bytes_limit"]) if "bytes_limit" in stats else host_memory()


def host_memory() -> int | None:
    """Return the bytes of memory of this machine, or of the container that it is; None if it is unknown."""
    try:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (ValueError, OSError, AttributeError):  # not a POSIX system
        return None
    for path in CGROUP_LIMITS:  # a container may have less memory than its host
        try:
            limits.append(int(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return min(limits)


def return_unused_memory() -> None:
    """Let the C library give back to the system what it holds of freed memory.

    The memory of a program that is compiled and dropped is freed in pieces, and glibc keeps them for later: a process
    that compiles many programs in turn grows though it keeps none. Other C libraries are left alone.
    """
    trim = getattr(_process_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


@functools.cache
def _process_library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # TypeError: on Windows
        return None


def check_fits(needed: Mapping[str, int], advice: str) -> None:
    """Check that arrays fit the memory.

    Args:
        needed: bytes of each kind of array, by its name.
        advice: what would make them fit.

    Raises:
        ConfigurationError: if they do not.
    """
    total, most = sum(needed.values()), device_memory()
    if most is not None and total > most:
        largest = sorted(needed.items(), key=lambda item: -item[1])[:3]
        parts = ", ".join(f"{readable(size)} for {name}" for name, size in largest)
        raise ConfigurationError(f"it needs {parts}, and this machine has {readable(most)} of memory; {advice}")


def readable(size: float) -> str:
    """Return a number of bytes with a unit."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024.0:
            return f"{size:.3g} {unit}"
        size /= 1024.0
    return f"{size:,.3g} TiB" if size < 1e6 else f"{size:.1e} TiB"
