"""`kilolayer envs`: list the environments."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from kilolayer.cli.options import parse
from kilolayer.envs import make, names, spec


@dataclasses.dataclass(frozen=True)
class EnvsOptions:
    """List the environments with their sizes. A text file with a maze of your own is an environment too."""

    json: bool = False
    """Print a JSON list of objects."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    options = parse(EnvsOptions, arguments, command="envs")
    rows = [_describe(name) for name in names()]
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = Table("name", "observation", "goal", "action", "episode", "what", box=None, header_style="bold")
    for row in rows:
        sizes = (row[f"{name}_size"] for name in ("observation", "goal", "action"))
        table.add_row(row["name"], *map(str, (*sizes, row["episode_length"])), spec(row["name"]).summary)
    console = Console()
    console.print(table)
    console.print("\nA maze of your own: kilolayer train my_maze.txt  ('#' wall, 'R' start, 'G' goal, '.' free)")
    return 0


def _describe(name: str) -> dict[str, Any]:
    environment = make(name)
    return {
        "name": name,
        "observation_size": environment.observation_size,
        "goal_size": environment.goal_size,
        "action_size": environment.action_size,
        "episode_length": environment.episode_length,
    }
