"""`kilolayer COMMAND --import FILE`: run a user's own Python first, which registers environments."""

from collections.abc import Sequence

from kilolayer.cli.imports import import_whole
from kilolayer.errors import KilolayerError
from kilolayer.user_code import import_code

FLAG = "--import"
"""The flag, in front of the subcommand or anywhere behind it."""


def import_user_code(arguments: Sequence[str]) -> list[str]:
    """Import what `--import` flags name, in their order, and return the other arguments.

    Raises:
        KilolayerError: in one line, if a file is missing, fails, or there is no command.
    """
    rest: list[str] = []
    given = iter(arguments)
    for argument in given:
        if argument != FLAG and not argument.startswith(f"{FLAG}="):
            rest.append(argument)
            continue
        target = argument.partition("=")[2] if "=" in argument else next(given, "")
        if not target:
            raise KilolayerError(f"{FLAG} needs a Python file or module")
        import_whole("kilolayer.envs")  # what nearly every file imports
        import_code(target)
    if not rest:
        raise KilolayerError(f"{FLAG} needs a command, too; kilolayer --help lists them")
    return rest
