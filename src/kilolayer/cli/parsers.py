"""The parsers of all commands, as argparse knows them: for the reference and for shell completion."""

import importlib
from typing import Any
from unittest import mock

import tyro

from kilolayer.cli import options
from kilolayer.cli.commands import BELOW, COMMANDS, module_of

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

    class Found(Exception):  # noqa: N818
        pass

    def keep(cls: type, *, prog: str, default: Any, args: Any) -> None:
        raise Found(options.parser_of(cls, command=prog.removeprefix("kilolayer "), default=default))

    command, *rest = words
    try:
        with mock.patch.object(tyro, "cli", keep):
            importlib.import_module(module_of(command)).run(rest)
    except Found as found:
        return found.args[0]
    raise LookupError(f"kilolayer {' '.join(words)} parses nothing")
