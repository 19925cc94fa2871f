"""`kilolayer --import FILE COMMAND`: run a user's own Python first, which registers environments.

Code is run because the user names it on the command line, never because a run directory does.
"""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from kilolayer.errors import KilolayerError

FLAG = "--import"


def import_user_code(arguments: Sequence[str]) -> list[str]:
    """Import what `--import` flags before the command name, and return the arguments behind them.

    Raises:
        KilolayerError: in one line, if a file is missing, fails, or no command follows.
    """
    rest = list(arguments)
    while rest and (rest[0] == FLAG or rest[0].startswith(f"{FLAG}=")):
        flag = rest.pop(0)
        target = flag.partition("=")[2] if "=" in flag else rest.pop(0) if rest else ""
        if not target:
            raise KilolayerError(f"{FLAG} needs a Python file or module")
        _import(target)
    if not rest:
        raise KilolayerError(f"{FLAG} must be followed by a command; kilolayer --help lists them")
    return rest


def _import(target: str) -> None:
    try:
        if not target.endswith(".py"):
            importlib.import_module(target)
            return
        path = Path(target).resolve()
        if not path.is_file():
            raise KilolayerError(f"{FLAG} {target}: there is no such file")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise KilolayerError(f"{FLAG} {target}: is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    except KilolayerError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split())
        raise KilolayerError(
            f"{FLAG} {target}: {type(error).__name__}: {text} ({place.filename}:{place.lineno})"
        ) from None
