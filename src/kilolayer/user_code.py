"""A user's own Python files, which register environments: run here, and again in processes that train for this one.

Code is run because the user names it on the command line, never because a run directory does.
"""

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kilolayer.errors import KilolayerError

_imported: list[str] = []

_registered_by: dict[tuple[str, str], str] = {}
"""The first module that registered a name of a kind."""


def import_code(target: str) -> None:
    """Import a Python file, named by its path, or a module.

    Raises:
        KilolayerError: in one line, if it is missing or fails.
    """
    try:
        if not target.endswith(".py"):
            importlib.import_module(target)
            _imported.append(target)
            return
        path = Path(target).resolve()
        if not path.is_file():
            raise KilolayerError(f"import {target}: there is no such file")
        name = _module_name(path)
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise KilolayerError(f"import {target}: is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))  # files beside it, after all modules of the same names
        spec.loader.exec_module(module)
        _imported.append(str(path))
    except KilolayerError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split())
        raise KilolayerError(
            f"import {target}: {type(error).__name__}: {text} ({place.filename}:{place.lineno})"
        ) from None


def is_rerun(kind: str, name: str) -> bool:
    """Return whether a notebook, or a prompt, registers something again that it registered before.

    A function that registers calls this each time, so that the first module to use a name is known.

    Args:
        kind: of what is registered, such as agent.
        name: of what is registered.
    """
    module = sys._getframe(2).f_globals.get("__name__", "")
    return _registered_by.setdefault((kind, name), module) == module == "__main__"


def _module_name(path: Path) -> str:
    """Return a module name for a file: its own unless a module has it, such as one of the standard library."""
    name = path.stem
    known = sys.modules.get(name)
    taken = name in sys.stdlib_module_names or (known is not None and getattr(known, "__file__", None) != str(path))
    return f"{name}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}" if taken else name


def imported() -> tuple[str, ...]:
    """Return what was imported so far, for `import_missing` in another process."""
    return tuple(_imported)


def describe_imported() -> list[dict[str, str]]:
    """Return what was imported so far as plain data: a file with the digest of its contents, or a module."""
    found = []
    for target in _imported:
        file = Path(target)
        found.append({"file": target, "sha256": _digest(file)} if target.endswith(".py") else {"module": target})
    return found


def not_imported(recorded: Iterable[Any]) -> dict[str, str]:
    """Return the files and modules of `describe_imported` that this process has not imported.

    Args:
        recorded: as read from a file; anything that is no such record is left out.

    Returns:
        For each, what is to be said of it: that the file has changed since, or is gone; empty otherwise.
    """
    found = {}
    for entry in recorded:
        target = entry.get("file", entry.get("module")) if isinstance(entry, dict) else None
        if not isinstance(target, str) or target in _imported:
            continue
        remark = ""
        if "file" in entry:
            digest = _digest(Path(target))
            remark = "it is gone" if not digest else "it has changed since" if digest != entry.get("sha256") else ""
        found[target] = remark
    return found


def _digest(file: Path) -> str:
    """Return the digest of a file; empty if it cannot be read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except (OSError, ValueError):
        return ""


def import_missing(targets: Iterable[str]) -> None:
    """Import what another process imported and this one did not.

    Raises:
        KilolayerError: in one line, if something is missing or fails.
    """
    for target in targets:
        if target not in _imported:
            import_code(target)
