"""Which kernels XLA chose on a GPU, kept with each run, so that every process of a run computes with the same ones.

XLA picks the kernels of products and of some fusions by timing candidates while it compiles, and picks differently from
process to process: speed differs, and so do the last bits. JAX keeps these choices, and whole compiled programs, in the
directory of its compilation cache. On a GPU every process owns such a directory while it lives, so that no other
process can change a choice in it. A run gets a copy of the choices with each checkpoint; a process that resumes it
takes a directory that has exactly these, or makes one from the copy.

The copies are small text files. Compiled programs never leave the machine: a run may come from a stranger.
"""

import dataclasses
import hashlib
import importlib.util
import itertools
import json
import logging
import mmap
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import jax

from kilolayer.compilation_cache import MIN_SECONDS, drop_oldest, kept_directory
from kilolayer.files import locked, write_json, write_whole
from kilolayer.system import versions

LOG = logging.getLogger("kilolayer")

CHOICES = "kernels"
"""Name of the directory of choices in a run, and of those of this machine in the user's cache directory."""

AUTOTUNE = "xla_gpu_per_fusion_autotune_cache_dir"
"""Name that JAX gives the directory of choices inside its compilation cache."""

SECOND_FLAG = "xla_gpu_experimental_autotuner_cache_dir"
"""XLA's flag for the choices that some of its versions do not write to the other directory."""

ABOUT = "about.json"
SUFFIX = ".textproto"

LARGEST = 2**20
"""Bytes of the largest file of a choice that is taken from a run."""

MOST = 8
"""Directories that a machine keeps for one set of versions; the oldest are dropped."""

DEPENDS_ON = ("jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin", "nvidia-cublas", "nvidia-cublas-cu12")
"""Packages whose versions the choices depend on."""

_held = ExitStack()
"""Holds the lock of the directory that this process owns, until it ends."""


@dataclasses.dataclass(frozen=True)
class Owned:
    """The directory of programs and choices that a process owns."""

    path: Path
    fresh: bool
    """The process made it."""

    @property
    def choices(self) -> Path:
        """Where XLA keeps its choices."""
        return self.path / AUTOTUNE


def own_kernel_choices(run: Path | None = None) -> Owned | None:
    """Give this process a directory for the programs and choices of a GPU, before it compiles anything.

    It changes JAX's configuration and the environment, so that it belongs to the command line, as `set_up_process`.
    It does nothing without a GPU, or if the user has set up JAX's cache or wants none.

    Args:
        run: the run to resume; None if the process starts a new one.

    Returns:
        The directory; None if there is none.
    """
    base, ours = kept_directory(CHOICES), kept_directory("")
    kept = None if run is None else _read(run / CHOICES)
    if not has_gpu():
        if kept is not None:
            LOG.info(f"{run} was trained on {_card(kept[0])}, and resumes on another device, with other last bits")
        return None
    before = jax.config.values["jax_compilation_cache_dir"]
    if base is None or (before and ours is not None and Path(before) not in (ours, ours / "compiled")):
        return None
    now = _relevant_versions()
    if kept is not None and kept[0].get("versions") != now:
        LOG.info(f"{run} was trained with other versions of JAX or CUDA; kernels are chosen anew, with other last bits")
        kept = None
    try:
        owned = claim(base / _digest(now)[:12], None if kept is None else kept[1])
    except OSError:
        return None
    jax.config.update("jax_compilation_cache_dir", str(owned.path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
    if is_known_to_xla(SECOND_FLAG):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --{SECOND_FLAG}={owned.choices}".strip()
    if kept is not None and kept[0].get("card") != (card := jax.devices()[0].device_kind):
        LOG.info(f"{run} was trained on {_card(kept[0])}, and resumes on {card}, with other last bits")
    return owned


def claim(base: Path, wanted: Mapping[str, str] | None = None) -> Owned:
    """Take a directory that no living process owns; its lock is held until this process ends.

    Args:
        base: holds the directories of this machine.
        wanted: texts of the choices, by name, that it must have; None takes any directory.

    Raises:
        OSError: if nothing can be written.
    """
    base.mkdir(parents=True, exist_ok=True)
    _drop_unused(base)
    there = sorted(path for path in base.iterdir() if path.is_dir())
    others = (base / f"{number}" for number in itertools.count(1))
    for path in itertools.chain(there, (path for path in others if path not in there)):
        with ExitStack() as stack:
            fresh = not path.exists()
            path.mkdir(exist_ok=True)
            if not stack.enter_context(locked(_lock_of(path))):
                continue
            choices = path / AUTOTUNE
            if fresh:
                choices.mkdir(exist_ok=True)
                for name, text in (wanted or {}).items():
                    write_whole(choices / name, text)
            elif not choices.is_dir() or (wanted is not None and not wanted.items() <= texts(choices).items()):
                continue
            drop_oldest(path)
            os.utime(path)
            _held.push(stack.pop_all())
            return Owned(path, fresh)
    raise AssertionError


def keep_choices(run: Path) -> dict[str, Any] | None:
    """Copy the choices of this process to a run, those that it does not have yet.

    Args:
        run: directory of the run.

    Returns:
        What was chosen as plain data, for system.json; None on a CPU, or if nothing was chosen.

    Raises:
        OSError: if it cannot be written.
    """
    cache = jax.config.values["jax_compilation_cache_dir"]
    if not cache or jax.default_backend() == "cpu":
        return None
    found, place = texts(Path(cache) / AUTOTUNE), run / CHOICES
    if not found:
        return None
    kept = texts(place)
    merged = kept | found
    about = {
        "card": jax.devices()[0].device_kind,
        "versions": _relevant_versions(),
        "directory": str(cache),
        "entries": len(merged),
        "digest": _digest(merged),
    }
    if merged != kept:
        place.mkdir(exist_ok=True)
        for name, text in found.items():
            if kept.get(name) != text:
                write_whole(place / name, text)
        write_json(place / ABOUT, about)
    return about


def texts(directory: Path) -> dict[str, str]:
    """Return the texts of all choices in a directory by name; none if there is no such directory."""
    found = {}
    with suppress(OSError):
        for path in sorted(directory.iterdir()):
            with suppress(OSError, ValueError):
                if path.suffix == SUFFIX and path.is_file() and path.stat().st_size <= LARGEST:
                    found[path.name] = path.read_text(encoding="utf-8")
    return found


def has_gpu() -> bool:
    """Return whether JAX will compute on an NVIDIA GPU, without starting it: flags are read when it starts."""
    wanted = (os.environ.get("JAX_PLATFORMS") or jax.config.values.get("jax_platforms") or "cuda").split(",")[0]
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    return (
        wanted in ("cuda", "gpu")
        and any(importlib.util.find_spec(name) is not None for name in plugins)
        and any(Path("/dev").glob("nvidia[0-9]*"))
    )


def is_known_to_xla(flag: str) -> bool:
    """Return whether the installed XLA has a flag: it ends the process at flags that it does not know."""
    libraries = []
    for name, pattern in (("jaxlib", "libjax_common.so"), ("jax_plugins", "xla_cuda*/xla_cuda_plugin.so")):
        spec = importlib.util.find_spec(name)
        places = (spec and spec.submodule_search_locations) or ()
        found = [path for place in places for path in Path(place).glob(pattern)]
        if not found:
            return False
        libraries += found
    try:
        return all(_contains(path, flag.encode()) for path in libraries)
    except (OSError, ValueError):
        return False


def _contains(path: Path, text: bytes) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(text) >= 0


def _read(place: Path) -> tuple[dict[str, Any], dict[str, str]] | None:
    """Return what a run says of its choices, and their texts; None if it has none."""
    try:
        about = json.loads((place / ABOUT).read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return (about, texts(place)) if isinstance(about, dict) else None


def _drop_unused(base: Path) -> None:
    """Delete the oldest directories that no process owns if there are many."""
    known = sorted((path for path in base.iterdir() if path.is_dir()), key=os.path.getmtime)
    for path in known[: max(len(known) - MOST, 0)]:
        with locked(_lock_of(path)) as is_free:
            if is_free:
                shutil.rmtree(path, ignore_errors=True)


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")


def _relevant_versions() -> dict[str, str]:
    return {name: version for name, version in versions().items() if name in DEPENDS_ON}


def _digest(data: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _card(about: Mapping[str, Any]) -> str:
    return str(about.get("card", "an unknown device"))
