"""Reference pages made of the code: the command line from its own parser, settings, docstrings as reStructuredText.

A line `<!-- command line -->` or `<!-- settings -->` in a page becomes what the code says when the site is built.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

from kilolayer.agents import agent_specs
from kilolayer.cli.help import explanation, flags_of, usage, value_name
from kilolayer.cli.parsers import commands, parser
from kilolayer.envs.engines import engine_names, engine_spec
from kilolayer.nn import torso_names, torso_spec

EXAMPLE = "reacher"
"""Environment whose defaults are shown where they depend on it."""

POSITIONAL = {"train": (EXAMPLE,)}
"""What has to follow a command before it knows its options."""


def connect(app: Any) -> None:
    """Fill in the pages, and let docstrings pass through `as_rest` before anything else reads them."""
    app.connect("source-read", _fill, priority=400)  # before comments are taken out
    app.connect("autodoc-process-docstring", _docstring, priority=400)
    app.connect("autodoc-process-bases", _bases)


def _fill(app: Any, name: str, source: list[str]) -> None:
    for mark, text in PARTS.items():
        if mark in source[0]:
            source[0] = source[0].replace(mark, text())


# The command line -----------------------------------------------------------------------------------------------------


def command_line() -> str:
    """Return the options of all commands as Markdown."""
    parts = []
    for words in commands():
        command = " ".join(words)
        own = parser(*words, *POSITIONAL.get(words[0], ()))
        parts.append(f"### kilolayer {command}\n\n{_prose(own.description)}\n\n```text\n{usage(command, own)}\n```\n")
        for group in own._action_groups:
            shown = [action for action in group._group_actions if "--help" not in action.option_strings]
            block = group.title.removesuffix(" options")
            if not shown:
                continue
            if group.title not in ("positional arguments", "options"):
                if words[0] == "train":
                    where = "" if block != "crl" else " of the default agent"
                    parts.append(f"Block `--{block}.*`{where}: see [configuration](configuration.md).\n")
                    continue
                parts.append(f"Block `--{block}.*`:\n")
            parts += [_option(action, command) for action in shown]
    return "\n".join(parts)


def _option(action: Any, command: str) -> str:
    names = ", ".join(f"`{name}`" for name in flags_of(action, command)) or f"`{action.metavar}`"
    takes = f" `{value_name(action)}`" if value_name(action) else ""
    return f"{names}{takes}\n: {_prose(explanation(action))}\n"


def _prose(text: str | None) -> str:
    """Return help as one paragraph of Markdown: `<` and `*` stand for themselves."""
    parts = re.split(r"(`[^`]*`)", " ".join((text or "").split()))
    return "".join(part if part.startswith("`") else re.sub(r"([*<_$\[\]|])", r"\\\1", part) for part in parts)


# Settings ------------------------------------------------------------------------------------------------------------


def settings() -> str:
    """Return the settings of every block of a run as Markdown, with their defaults for `EXAMPLE`."""
    parts = ["## Training\n", *_options_of("train", EXAMPLE, title="options")]
    for block, what in (("optimizer", "Optimisers"), ("replay", "Replay")):
        parts += [f"\n## {what}\n", *_options_of("train", EXAMPLE, title=f"{block} options")]
    parts.append("\n## Torsos\n")
    for name in torso_names():
        parts += [f"\n### `{name}`\n", f"{_first_line(torso_spec(name).settings)}\n"]
        parts += _options_of("train", EXAMPLE, "--torso", name, title="architecture options")
    parts.append("\n## Agents\n")
    for spec in agent_specs():
        parts += [f"\n### `{spec.name}`\n", f"{_first_line(spec.settings)}\n"]
        env = "point_u_maze_discrete" if "discrete" in spec.name else EXAMPLE
        title = f"{spec.name.replace('_', '-')} options"
        own = _options_of("train", env, "--agent", spec.name, title=title)
        parts += own or ["It has no settings of its own on this command.\n"]
    return "\n".join(parts)


RUN_OPTIONS = ("run-dir", "preset", "seeds", "seeds-mode", "resume", "config", "checkpoint", "keep-later", "dry-run")
"""Options of `train` that are no settings of a run, with `json` and `quiet`."""


def _options_of(*words: str, title: str) -> list[str]:
    shown = []
    for group in parser(*words)._action_groups:
        if group.title == title:
            shown += [
                _option(action, words[0])
                for action in group._group_actions
                if action.dest not in (*RUN_OPTIONS, "json", "quiet", "help")
            ]
    return shown


def _first_line(cls: type) -> str:
    return _prose((cls.__doc__ or "").split("\n\n")[0])


def engines() -> str:
    """Return the engines of this installation as rows of a table."""
    rows = [f"| `{name}` | {engine_spec(name).summary} |" for name in engine_names()]
    return "\n".join(["| engine | what |", "|---|---|", *rows])


PARTS: dict[str, Callable[[], str]] = {
    "<!-- command line -->": command_line,
    "<!-- settings -->": settings,
    "<!-- engines -->": engines,
}
"""What stands for each mark in a page."""


# Docstrings -----------------------------------------------------------------------------------------------------------


def as_rest(lines: list[str]) -> list[str]:
    """Return a docstring, written in plain text with code between backticks, as reStructuredText.

    Code that is indented below a paragraph becomes a block of code, `code` a literal, and characters that would mark
    up something stand for themselves. Sections such as `Args:` stay as they are.
    """
    return list(_rest(lines))


SECTION = re.compile(r"(Args|Returns|Raises|Yields|Example|Examples|Note|Notes|Attributes|References):$")


def _rest(lines: list[str]) -> Iterator[str]:
    section = code = False
    for number, line in enumerate(lines):
        if line.lstrip().startswith("|"):
            yield from _row(line, first=not (number and lines[number - 1].lstrip().startswith("|")))
            continue
        before = lines[number - 1] if number else ""
        indent = len(line) - len(line.lstrip())
        if line.strip() and not indent:
            section, code = bool(SECTION.match(line)), False
        if indent >= 4 and not section and not before.strip() and not code:
            code = True
            yield from (".. code-block:: text", "")
        yield line if code or SECTION.match(line) or ">>>" in line else _escaped(line)


def _row(line: str, *, first: bool) -> Iterator[str]:
    """Yield a row of a Markdown table as a row of a list-table."""
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
    if first:
        yield from ("", ".. list-table::", "   :header-rows: 1", "")
    if all(set(cell) <= set("-: ") for cell in cells) and any(cells):
        return
    for number, cell in enumerate(cells):
        yield f"   {'* -' if number == 0 else '  -'} {_escaped(cell)}"


def _escaped(line: str) -> str:
    bullet = re.match(r"\s*[*-] ", line)
    if bullet:
        return bullet.group() + _escaped(line[bullet.end() :])
    parts = re.split(r"(``[^`]*``|`[^`]*`)", line)
    return "".join(
        f"``{part.strip('`')}``" if part.startswith("`") else re.sub(r"([*|])|(?<=\w)_(?=\W|$)", r"\\\g<0>", part)
        for part in parts
    )


def _docstring(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    if what == "class" and dataclasses.is_dataclass(found) and "".join(lines).startswith(f"{found.__name__}("):
        lines.clear()  # what dataclasses write where there is no docstring
    lines[:] = as_rest(lines)


def _bases(app: Any, name: str, found: Any, options: Any, bases: list[Any]) -> None:
    """Show `Enum`, `Protocol` and the library's own bases only by their names."""
    bases[:] = [base for base in bases if base is not object]
