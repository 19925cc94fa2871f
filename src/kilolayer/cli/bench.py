"""`kilolayer bench`: measure speed. Each row is printed as soon as it is measured."""

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kilolayer.cli.bench_options import (
    ActBench,
    AgentsBench,
    Columns,
    CompileBench,
    EnvBench,
    GpuBench,
    GymBench,
    ReplayBench,
    SeedsBench,
    StepBench,
)
from kilolayer.cli.commands import HELP_FLAGS
from kilolayer.cli.options import parse
from kilolayer.cli.output import command_asked
from kilolayer.errors import ConfigurationError, nearest_names
from kilolayer.files import json_text
from kilolayer.progress import Activity
from kilolayer.system import describe_system

LEFT = {
    "agent": 12,
    "settings": 20,
    "form": 16,
    "case": 12,
    "mode": 7,
    "part": 7,
    "what": 22,
    "left out": 8,
    "task": 14,
    "variant": 7,
    "engine": 8,
    "kind": 7,
    "remat": 10,
    "chain": 5,
    "precision": 9,
    "runtime": 11,
}
"""Columns of words with their least widths; all other columns hold numbers."""

NUMBER_WIDTH = 6

BENCHES: dict[str, type[Any]] = {
    "step": StepBench,
    "compile": CompileBench,
    "replay": ReplayBench,
    "env": EnvBench,
    "gym": GymBench,
    "act": ActBench,
    "seeds": SeedsBench,
    "agents": AgentsBench,
    "gpu": GpuBench,
}


def table_lines(columns: Columns, rows: Iterable[Any]) -> Iterator[str]:
    """Yield the headings with the first row, then each row as it comes, as aligned lines.

    A cell that is wider than the first row's moves the rest of its own line.
    """
    widths: dict[str, int] = {}

    def line(texts: Iterable[str]) -> str:
        cells = zip(widths.items(), texts, strict=True)
        return "  ".join(
            f"{text:<{width}}" if name in LEFT else f"{text:>{width}}" for (name, width), text in cells
        ).rstrip()

    for row in rows:
        texts = [cell(row) for cell in columns.values()]
        if not widths:
            widths |= {
                name: max(len(name), len(text), LEFT.get(name, NUMBER_WIDTH))
                for name, text in zip(columns, texts, strict=True)
            }
            yield line(columns)
        yield line(texts)


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand and return the exit code."""
    if not arguments or arguments[0] in HELP_FLAGS:
        print(f"usage: kilolayer bench {{{','.join(BENCHES)}}} [options]\n")
        for name, bench in BENCHES.items():
            print(f"  {name:8} {(bench.__doc__ or '').splitlines()[0]}")
        return 0
    if arguments[0] not in BENCHES:
        raise ConfigurationError(f"bench {arguments[0]!r} is unknown; {nearest_names(arguments[0], BENCHES)}")
    options = parse(BENCHES[arguments[0]], arguments[1:], command=f"bench {arguments[0]}")
    with Activity() as activity:
        rows = options.rows(activity)
        if not options.json:
            for line in table_lines(options.columns(), rows):
                with activity.aside():
                    print(line, flush=True)
            return 0
        found: list[dict[str, Any]] = []
        try:
            for line in table_lines(options.columns(), _kept(rows, found)):
                activity.note(line)
        finally:  # what is measured when an error or Ctrl-C ends it is not lost
            if found or sys.exception() is None:
                system = {"command": command_asked("bench", *arguments), "system": describe_system()}
                with activity.aside():
                    print(json_text(system | {"rows": found}), flush=True)
    return 0


def _kept(rows: Iterable[Any], found: list[dict[str, Any]]) -> Iterator[Any]:
    """Yield rows, and add each to `found` as plain data."""
    for row in rows:
        found.append(dataclasses.asdict(row))
        yield row
