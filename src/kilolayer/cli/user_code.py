"""`kilolayer --import FILE COMMAND`: run a user's own Python first, which registers environments."""

from collections.abc import Sequence

from kilolayer.errors import KilolayerError
from kilolayer.user_code import import_code

FLAG = "--import"
"""The flag in front of the subcommand."""


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
        import_code(target)
    if not rest:
        raise KilolayerError(f"{FLAG} must be followed by a command; kilolayer --help lists them")
    return rest
