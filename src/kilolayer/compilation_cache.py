"""Compiled programs are kept on the disk, so that the same run starts faster the next time."""

import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import jax

VARIABLE = "KILOLAYER_CACHE_DIR"
"""Environment variable: the directory to keep compiled programs, and what else can be made again, in; `off` keeps
none."""

MAX_BYTES = 2 * 2**30
"""When there are more, the oldest programs are dropped."""

MIN_SECONDS = 0.5
"""What compiles faster than this is not kept."""


COMPILED = "compiled"
"""Name of the directory of compiled programs."""


def default_directory() -> Path:
    """Return where this platform keeps compiled programs that can be made again."""
    return _default_parent() / COMPILED


def kept_directory(kind: str) -> Path | None:
    """Return the directory for things of a kind that can be made again; None if the user keeps none.

    Args:
        kind: name of the directory.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted.lower() == "off":
        return None
    return (Path(wanted) if wanted else _default_parent()) / kind


def _default_parent() -> Path:
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "kilolayer"


def enable_compilation_cache() -> Path | None:
    """Keep compiled programs on the disk from now on, unless the user has set up JAX's cache, or switched this off.

    Programs that call a C engine (collecting on `mujoco`) cannot be kept; all others are. A directory that cannot be
    written, or a damaged entry, costs a compilation and nothing else.

    Returns:
        The directory; None if it is not ours to choose or cannot be written.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted.lower() == "off" or (jax.config.values["jax_compilation_cache_dir"] and not wanted):
        return None
    directory = Path(wanted) if wanted else default_directory()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK):
            return None
        drop_oldest(directory)
    except OSError:
        return None
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache entry")
    return directory


def drop_oldest(directory: Path) -> None:
    """Bring a directory of programs down to half of `MAX_BYTES` if it is above; other processes may do the same."""
    entries = []
    for path in directory.iterdir():
        with suppress(OSError):
            status = path.stat()
            entries.append((status.st_mtime, status.st_size, path))
    excess = sum(size for _, size, _ in entries)
    if excess <= MAX_BYTES:
        return
    for _, size, path in sorted(entries):
        if excess <= MAX_BYTES // 2:
            break
        with suppress(OSError):
            path.unlink()
            excess -= size
