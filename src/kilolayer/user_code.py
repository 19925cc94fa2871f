"""A user's own Python files, which register environments: run here, and again in processes that train for this one.

Code is run because the user names it on the command line, never because a run directory does.
"""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from kilolayer.errors import KilolayerError

_imported: list[str] = []


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
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise KilolayerError(f"import {target}: is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
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


def imported() -> tuple[str, ...]:
    """Return what was imported so far, for `import_missing` in another process."""
    return tuple(_imported)


def import_missing(targets: Iterable[str]) -> None:
    """Import what another process imported and this one did not.

    Raises:
        KilolayerError: in one line, if something is missing or fails.
    """
    for target in targets:
        if target not in _imported:
            import_code(target)
