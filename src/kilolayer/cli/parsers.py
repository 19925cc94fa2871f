"""The parsers of all commands, as argparse knows them: for the reference and for shell completion."""

import contextlib
import importlib
import io
from typing import Any

from kilolayer.cli.commands import BELOW, COMMANDS, HELP_FLAGS, module_of
from kilolayer.cli.options import HelpShown

ITSELF_TOO = ("envs",)
"""Commands that do something also without one of those below them."""


def commands() -> list[tuple[str, ...]]:
    """Return the words of every command, with those below it."""
    found: list[tuple[str, ...]] = []
    for command in COMMANDS:
        if command not in BELOW or command in ITSELF_TOO:
            found.append((command,))
        found += [(command, below) for below in BELOW.get(command, ())]
    return found


def parser(*words: str) -> Any:
    """Return the parser that a command line meets.

    Args:
        words: the command and what follows it.

    Raises:
        LookupError: if nothing is parsed.
    """

    command, *rest = words
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module(module_of(command)).run([*rest, HELP_FLAGS[0]])
    except HelpShown as shown:
        return shown.parser
    raise LookupError(f"kilolayer {' '.join(words)} parses nothing")
