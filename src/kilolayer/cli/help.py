"""The help of a command: what people use first in a group of its own, ahead of the rest."""

import functools
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from kilolayer.cli.commands import HELP_ALL, HELP_FLAGS
from kilolayer.cli.spellings import names_of

NAMES_ALONE = 40
"""Options from which on the short help of a command names the rest without explaining it."""

WIDEST = 110
"""Columns; longer lines are hard to read."""

INDENT = 24
"""Columns of flags, before what they do."""


def help_text(command: str, parser: Any, first: Sequence[str], *, everything: bool) -> str:
    """Return the help of a command.

    Args:
        command: as it is called, such as `bench step`.
        parser: of its options, as argparse knows it.
        first: the options that people use first, without their dashes; empty shows all alike.
        everything: explain all options, however many there are.
    """
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns - 1)
    explained = functools.partial(_explained, command=command, width=width)
    groups = {group.title: _shown(group) for group in parser._action_groups}
    positional = groups.pop("positional arguments", [])
    flags = [action for actions in groups.values() for action in actions]
    by_name = {action.option_strings[0]: action for action in flags}
    used_first = [by_name[f"--{name}"] for name in first if f"--{name}" in by_name]
    lines = [f"usage: {usage(command, parser)}", "", *_paragraphs(parser.description, width)]
    if positional:
        lines += ["", *(line for one in positional for line in explained(one))]
    if used_first:
        lines += ["", "used first:", *(line for one in used_first for line in explained(one))]
    brief = bool(used_first) and len(flags) > NAMES_ALONE and not everything
    for title, actions in groups.items():
        rest = [one for one in actions if one not in used_first]
        if rest:
            title = title.replace("options", "more options" if used_first and title == "options" else "options")
            described = _names(rest, width) if brief else (line for one in rest for line in explained(one))
            lines += ["", f"{title}:", *described]
    if brief:
        lines += ["", f"All options with their defaults: kilolayer {command} ... {HELP_ALL}"]
    return "\n".join(lines)


def usage(command: str, parser: Any) -> str:
    """Return how a command is called: its words, what follows them, and that there are options."""
    positional = [
        f"[{action.metavar}{' ...' if action.nargs == '*' else ''}]" if action.nargs in ("?", "*") else action.metavar
        for action in parser._actions
        if not action.option_strings
    ]
    return " ".join(["kilolayer", command, *map(str, positional), "[options]"])


def value_name(action: Any) -> str:
    """Return what stands for the value of a flag, such as INT or {cpu,gpu}; empty for a switch."""
    if not action.option_strings or action.metavar is None:
        return ""
    return re.sub(r"^\{None\}\||(?<=^\{)None,", "", str(action.metavar))


def explanation(action: Any) -> str:
    """Return what an option does, with its default unless that says nothing, in one paragraph."""
    text = " ".join((action.help or "").split())
    return re.sub(r" \(default: (False|''|)\)$", "", text)


def _shown(group: Any) -> list[Any]:
    return [action for action in group._group_actions if not set(action.option_strings) & set(HELP_FLAGS)]


def flags_of(action: Any, command: str) -> list[str]:
    """Return the spellings of a flag; the `--no-` of a switch only where it is on by itself."""
    names = action.option_strings[:1] if action.default is False else action.option_strings
    return [spelling for name in names for spelling in names_of(name, command)]


def _flag(action: Any, command: str) -> str:
    names = flags_of(action, command)
    return f"{', '.join(names) or action.metavar} {value_name(action)}".strip()


def _explained(action: Any, *, command: str, width: int) -> Iterator[str]:
    """Yield the lines of an option: its flag, and what it does beside or below."""
    flag = f"  {_flag(action, command)}"
    text = textwrap.wrap(explanation(action), width - INDENT, break_on_hyphens=False) or [""]
    if len(flag) + 2 > INDENT:
        yield flag
        yield from (f"{'':{INDENT}}{line}" for line in text)
        return
    yield f"{flag:{INDENT}}{text[0]}"
    yield from (f"{'':{INDENT}}{line}" for line in text[1:])


def _names(actions: Sequence[Any], width: int) -> list[str]:
    names = ", ".join(action.option_strings[0] for action in actions)
    return textwrap.wrap(names, width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _paragraphs(text: str | None, width: int) -> list[str]:
    paragraphs = [" ".join(part.split()) for part in (text or "").split("\n\n")]
    return "\n\n".join(textwrap.fill(part, width, break_on_hyphens=False) for part in paragraphs).splitlines()
