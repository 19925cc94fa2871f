"""Command-line options from typed dataclasses, with errors of one line."""

import contextlib
import io
import sys
from collections.abc import Collection, Sequence
from typing import TypeVar

import tyro

from kilolayer.errors import ConfigurationError

Options = TypeVar("Options")

HELP_FLAGS = ("-h", "--help")


def parse(cls: type[Options], arguments: Sequence[str], *, command: str, default: Options | None = None) -> Options:
    """Parse `arguments` into an instance of a dataclass; its field docstrings are the help.

    Args:
        cls: the dataclass.
        arguments: what followed the subcommand.
        command: the subcommand, as it is called.
        default: values of fields that no flag sets; None takes those of the class.

    Raises:
        ConfigurationError: in one line, where the parser would draw a box.
        SystemExit: after printing help.
    """
    for argument in arguments:
        if "\0" in argument:
            raise ConfigurationError(f"{argument!r} holds a NUL character, which no name can have")
    wants_help = any(flag in arguments for flag in HELP_FLAGS)
    complaint = io.StringIO()
    try:
        with contextlib.nullcontext() if wants_help else contextlib.redirect_stderr(complaint):
            return tyro.cli(
                cls,
                prog=f"kilolayer {command}",
                args=list(arguments),
                default=tyro.MISSING_NONPROP if default is None else default,
            )
    except SystemExit as stop:
        if wants_help or not stop.code:
            sys.stderr.write(complaint.getvalue())
            raise
        raise ConfigurationError(f"{_one_line(complaint.getvalue())} (see kilolayer {command} --help)") from None


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
