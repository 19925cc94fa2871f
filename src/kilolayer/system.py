"""What a result was made with: versions, source commit, processor, memory, devices and date, as plain data."""

import functools
import importlib.metadata
import json
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from kilolayer.machine import cpu_cores, cpu_model
from kilolayer.memory import host_memory
from kilolayer.user_code import describe_imported
from kilolayer.version import __version__

RECORDED_PACKAGES = (
    *("jax", "jaxlib", "equinox", "optax", "orbax-checkpoint", "numpy"),
    *("mujoco", "mujoco-mjx", "warp-lang", "brax"),
    *("jax-cuda12-plugin", "jax-cuda13-plugin", "nvidia-cublas", "nvidia-cublas-cu12"),
)

GIT_SECONDS = 5.0
"""Longest wait for git."""


def describe_system() -> dict[str, Any]:
    """Return versions, hardware and date as plain data.

    `memory_bytes` and `commit` are None where they cannot be found out.
    """
    import jax

    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cpu_cores": cpu_cores(),
        "memory_bytes": host_memory(),
        "devices": [device.device_kind for device in jax.devices()],
        "commit": source_commit(),
        "versions": versions(),
        "imported": describe_imported(),
    }


def versions() -> dict[str, str]:
    """Return the version of the library, and those of the recorded packages that are installed."""
    return {"kilolayer": __version__} | dict(_versions())


def _versions() -> Iterator[tuple[str, str]]:
    for name in RECORDED_PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)


@functools.cache
def source_commit() -> str | None:
    """Return the git commit of the library: of its work tree, or the one it was installed from; None if unknown.

    A work tree with uncommitted changes of the library has `-dirty` behind its commit.
    """
    return _commit_of_work_tree(Path(__file__).parent) or _installed_commit()


def _commit_of_work_tree(package: Path) -> str | None:
    if not _git(package, "ls-files", "__init__.py"):  # not the library's own work tree
        return None
    commit, changes = _git(package, "rev-parse", "HEAD"), _git(package, "status", "-s", ".")
    return commit and commit + ("-dirty" if changes else "")


def _installed_commit() -> str | None:
    """Return the commit that pip installed from, by PEP 610."""
    try:
        found = json.loads(importlib.metadata.distribution("kilolayer").read_text("direct_url.json") or "{}")
        return str(found["vcs_info"]["commit_id"])
    except (importlib.metadata.PackageNotFoundError, ValueError, LookupError, TypeError):
        return None


def _git(directory: Path, *arguments: str) -> str | None:
    """Return what a git command prints; None if it fails or there is no git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments], capture_output=True, text=True, timeout=GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout.strip()
