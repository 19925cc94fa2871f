"""`kilolayer envs`: list the environments. `kilolayer envs check TASK`: look whether one is fit to train on."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from kilolayer.cli.options import parse
from kilolayer.envs import make, names, spec
from kilolayer.envs.check import Finding, check
from kilolayer.envs.engines import EngineName
from kilolayer.envs.registry import Variant
from kilolayer.errors import ConfigurationError

MARKS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "failed": "[bold red]failed[/]"}


@dataclasses.dataclass(frozen=True)
class EnvsOptions:
    """List the environments with their sizes. A text file with a maze of your own is an environment too.

    `kilolayer envs check TASK` checks one: sizes, starts, goals, stability under zero and random actions, speed.
    """

    json: bool = False
    """Print a JSON list of objects."""


@dataclasses.dataclass(frozen=True)
class CheckOptions:
    """Check whether an environment is fit to train on. The exit code is 1 if a check failed."""

    env: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK")]
    """Environment, or the path of a maze file."""
    engine: EngineName = "auto"
    """How the world moves."""
    variant: Variant = "default"
    """Form of the task."""
    num_envs: int = 64
    """Environments side by side."""
    num_steps: int = 1000
    """Steps of each without action, and as many with random actions."""
    seed: int = 0
    """Seed of starts, goals and actions."""
    json: bool = False
    """Print a JSON list of objects."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    if arguments and arguments[0] == "check":
        return _check(parse(CheckOptions, arguments[1:], command="envs check"))
    options = parse(EnvsOptions, arguments, command="envs")
    rows = [_describe(name) for name in names()]
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = Table("name", "observation", "goal", "action", "episode", "what", box=None, header_style="bold")
    for row in rows:
        action = f"one of {row['action_size']}" if row["discrete_actions"] else row["action_size"]
        numbers = (row["observation_size"], row["goal_size"], action, row["episode_length"])
        table.add_row(row["name"], *map(str, numbers), spec(row["name"]).summary)
    console = Console()
    console.print(table)
    console.print("\nA maze of your own: kilolayer train my_maze.txt  ('#' wall, 'R' start, 'G' goal, '.' free)")
    console.print("A robot of your own: kilolayer --import my_robot.py train my_robot; check it first: envs check")
    return 0


def _describe(name: str) -> dict[str, Any]:
    entry = spec(name)
    task = entry.make_task()
    return {
        "name": name,
        "observation_size": task.observation_size,
        "goal_size": task.goal_size,
        "action_size": task.action_size,
        "discrete_actions": getattr(task, "discrete_actions", False),
        "episode_length": entry.episode_length,
        "engines": list(task.engines),
        "paper_engine": entry.paper_engine,
    }


def _check(options: CheckOptions) -> int:
    for name in ("num_envs", "num_steps"):
        if getattr(options, name) < 1:
            raise ConfigurationError(f"{name}={getattr(options, name)} must be at least 1")
    environment = make(options.env, engine=options.engine, variant=options.variant)
    console = Console(stderr=True)
    findings: list[Finding] = []
    with console.status("") as status:
        for finding in check(
            environment,
            num_envs=options.num_envs,
            num_steps=options.num_steps,
            seed=options.seed,
            tell=lambda what: status.update(f"{environment.name}: {what}"),
        ):
            findings.append(finding)
    if options.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        table = Table(box=None, show_header=False)
        for finding in findings:
            table.add_row(MARKS[finding.verdict], finding.name, finding.text)
        Console().print(table)
    return int(any(finding.verdict == "failed" for finding in findings))
