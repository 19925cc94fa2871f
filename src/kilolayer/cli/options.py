"""Command-line options from typed dataclasses, with errors of one line."""

import contextlib
import io
import warnings
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

import tyro

from kilolayer.cli.commands import HELP_ALL, HELP_FLAGS
from kilolayer.cli.help import help_text
from kilolayer.cli.spellings import in_full, list_with_spaces
from kilolayer.errors import ConfigurationError

Options = TypeVar("Options")


def parse(cls: type[Options], arguments: Sequence[str], *, command: str, default: Options | None = None) -> Options:
    """Parse `arguments` into an instance of a dataclass; its field docstrings are the help.

    Args:
        cls: the dataclass.
        arguments: what followed the subcommand.
        command: the subcommand, as it is called.
        default: values of fields that no flag sets; None takes those of the class.

    Raises:
        ConfigurationError: in one line, where the parser would draw a box.
        HelpShown: after printing help.
    """
    for argument in arguments:
        if "\0" in argument:
            raise ConfigurationError(f"{argument!r} holds a NUL character, which no name can have")
    given: Any = tyro.MISSING_NONPROP if default is None else default
    if wants_help(arguments):
        known = parser_of(cls, command=command, default=given)
        print(help_text(command, known, getattr(cls, "FIRST", ()), everything=HELP_ALL in arguments))
        raise HelpShown(known)
    arguments = in_full(arguments, command=command)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(cls, prog=f"kilolayer {command}", args=arguments, default=given)
    except SystemExit as stop:
        if not stop.code:
            raise
        known = parser_of(cls, command=command, default=given)
        lists = [flag for action in known._actions if ",..." in str(action.metavar) for flag in action.option_strings]
        message = list_with_spaces(arguments, lists) or _one_line(complaint.getvalue())
        raise ConfigurationError(f"{message} (see kilolayer {command} --help)") from None


class HelpShown(SystemExit):
    """Help was printed; nothing is to run."""

    def __init__(self, parser: Any):
        super().__init__(0)
        self.parser = parser


def wants_help(arguments: Sequence[str]) -> bool:
    """Return whether arguments ask for help."""
    return any(argument in HELP_FLAGS for argument in arguments)


def parser_of(cls: type[Any], *, command: str, default: Any) -> Any:
    """Return the parser of a dataclass as argparse knows it: flags, what they take, and what they do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return tyro.extras.get_parser(cls, prog=f"kilolayer {command}", default=default)


def _one_line(box: str) -> str:
    """Take the first paragraph, and the flags it suggests, out of a message drawn as a box under a title."""
    paragraphs: list[list[str]] = [[]]
    for line in box.splitlines()[1:]:
        text = line.strip(" │┃|")
        if set(text) <= set("╰╯─━-"):
            paragraphs.append([])
        else:
            paragraphs[-1].append(text)
    message, *others = [paragraph for paragraph in paragraphs if paragraph] or [["the arguments do not parse"]]
    suggestion = ""
    for paragraph in others:
        flags = [text.split()[0] for text in paragraph[1:] if text.startswith("--")]
        if paragraph[0].startswith("Perhaps you meant") and flags:
            suggestion = f"; perhaps you meant {' or '.join(flags)}"
    return " ".join(message) + suggestion


def scan(arguments: Sequence[str], *, switches: Collection[str]) -> dict[str, str]:
    """Return what is given for each flag, by the name of its field, without checking it.

    Args:
        arguments: what followed the subcommand.
        switches: names of flags that take no value, such as `dry_run`.

    Returns:
        Texts by names with underscores; the first argument that belongs to no flag is `env`.
    """
    found: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument in HELP_FLAGS:
            continue
        if not argument.startswith("--"):
            found.setdefault("env", argument)
            continue
        flag, equals, value = argument[2:].partition("=")
        name = flag.replace("-", "_")
        if equals:
            found[name] = value
        elif name in switches or _without_no(name) in switches:
            found[name] = "True"
        elif rest:
            found[name] = rest.pop(0)
    return found


def _without_no(name: str) -> str:
    """Return the name of the switch that `no_NAME` turns off; in a block, `block.no_NAME`."""
    block, dot, field = name.rpartition(".")
    return f"{block}{dot}{field.removeprefix('no_')}"
