"""`kilolayer envs`: list the environments. `kilolayer envs show ENV` describes one, `envs check ENV` tests it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kilolayer.cli.commands import BELOW
from kilolayer.cli.options import parse
from kilolayer.envs import make, names, registry, spec
from kilolayer.envs.check import Finding, check
from kilolayer.envs.coverage import Coverage, explore, recorded_of
from kilolayer.envs.engines import engines_of
from kilolayer.envs.entries import entries_of
from kilolayer.envs.interface import Task
from kilolayer.envs.names import PARTS, Part, entry_names, told
from kilolayer.envs.registry import Variant
from kilolayer.envs.robot_task import VARIANTS
from kilolayer.errors import ConfigurationError, nearest_names
from kilolayer.files import csv_text, json_text, write_whole
from kilolayer.memory import check_fits
from kilolayer.runs import named_presets
from kilolayer.runs.option_types import EngineOption
from kilolayer.runs.presets import PAPER
from kilolayer.settings import check_count, check_seed

BYTES_OF_A_STEP = 8
"""Of each entry of an observation, at least: what a check keeps of every step."""

MARKS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "failed": "[bold red]failed[/]"}


@dataclasses.dataclass(frozen=True)
class EnvsOptions:
    """List the environments with their sizes. A text file with a maze is an environment, too.

    `kilolayer envs show ENV` describes one: the names of all entries of observation, goal and action, the engines, the
    presets with what they reach. `kilolayer envs explore ENV...` measures how far random actions get.
    `kilolayer envs check ENV` tests one: sizes, names, starts, goals, stability under zero and random actions, speed.
    """

    json: bool = False
    """Print JSON: a list of objects."""


@dataclasses.dataclass(frozen=True)
class ShowOptions:
    """Describe an environment: entries of observation, goal and action, control step, episode length, engines."""

    env: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")]
    """Environment, or the path of a maze file."""
    variant: Variant = "default"
    """Variant of the task."""
    json: bool = False
    """Print JSON: one object."""


@dataclasses.dataclass(frozen=True)
class CheckOptions:
    """Test whether an environment is suited for training. The exit code is 1 if a check fails."""

    env: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")]
    """Environment, or the path of a maze file."""
    engine: EngineOption = "auto"
    """Physics engine."""
    variant: Variant = "default"
    """Variant of the task."""
    num_envs: int = 64
    """Environments in parallel."""
    num_steps: int = 1000
    """Steps of each environment without action, and again with random actions."""
    seed: int = 0
    """Seed of all randomness: starts, goals and actions."""
    json: bool = False
    """Print JSON: a list of objects."""


@dataclasses.dataclass(frozen=True)
class ExploreOptions:
    """Measure how far random actions get in environments, by variant and engine: what an agent can find at first."""

    envs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="ENV")] = ()
    """Environments, or paths of maze files."""
    variant: Variant | None = None
    """Variant of the task; None measures each."""
    engine: EngineOption = "auto"
    """Physics engine; auto takes that of each variant."""
    episodes: int = 64
    """Episodes, each with a start and goal of its own, in each environment."""
    held: int = 1
    """Steps for which a random action is kept."""
    seed: int = 0
    """Seed of all randomness: starts and actions."""
    output: Path | None = None
    """Path to write: a CSV file for the table."""
    json: bool = False
    """Print JSON: a list of objects."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand and return its exit code."""
    if arguments and arguments[0] == "check":
        return _check(parse(CheckOptions, arguments[1:], command="envs check"))
    if arguments and arguments[0] == "explore":
        return _explore(parse(ExploreOptions, arguments[1:], command="envs explore"))
    if arguments and arguments[0] == "show":
        return _show(parse(ShowOptions, arguments[1:], command="envs show"))
    if arguments and not arguments[0].startswith("-"):
        raise ConfigurationError(f"envs {arguments[0]!r} is unknown; {nearest_names(arguments[0], BELOW['envs'])}")
    return _list(parse(EnvsOptions, arguments, command="envs"))


def _list(options: EnvsOptions) -> int:
    rows = [_summary(name) for name in names()]
    if options.json:
        print(json_text(rows))
        return 0
    table = Table("name", "observation", "goal", "action", "episode", "what", box=None, header_style="bold")
    for row in rows:
        action = f"one of {row['action_size']}" if row["discrete_actions"] else row["action_size"]
        numbers = (row["observation_size"], row["goal_size"], action, row["episode_length"])
        table.add_row(row["name"], *map(str, numbers), spec(row["name"]).summary)
    console = Console()
    console.print(table)
    console.print("\nPresets, by --preset NAME; envs show ENV says what each reaches:", highlight=False)
    for preset in sorted({preset for row in rows for preset in row["presets"]} - {PAPER}):
        having = ", ".join(row["name"] for row in rows if preset in row["presets"])
        console.print(f"  [bold]{preset}[/]: {having}", highlight=False)
    console.print(f"  [bold]{PAPER}[/]: every environment with a variant {PAPER}", highlight=False)
    console.print("\nA maze of your own: kilolayer train my_maze.txt  ('#' wall, 'R' start, 'G' goal, '.' free)")
    console.print(f"with another robot than a point: --robot {', '.join(registry.maze_robots()[1:])}", highlight=False)
    console.print(
        "An environment of Gymnasium or OGBench: kilolayer train gym:FetchReach-v4, ogbench:antmaze-medium-v0"
    )
    console.print("A robot of your own: kilolayer --import my_robot.py train my_robot; check it first: envs check")
    return 0


def _explore(options: ExploreOptions) -> int:
    for name in ("episodes", "held"):
        check_count(name, getattr(options, name))
    check_seed(options.seed)
    if not options.envs:
        raise ConfigurationError("ENV is missing: kilolayer envs explore ENV...; `kilolayer envs` lists them")
    forms = [
        (name, variant, make(name, engine=options.engine, variant=variant))
        for name in options.envs
        for variant in _forms(name, options.variant)
    ]
    rows = []
    console = Console(stderr=True)
    for name, variant, environment in forms:
        engine = spec(registry.resolve(name)).engine_name(options.engine, variant)
        with console.status(f"{environment.name}, {variant}, {engine}"):
            coverage = explore(environment, num_envs=options.episodes, seed=options.seed, held=options.held)
        rows.append({"env": environment.name, "variant": variant, "engine": engine, **dataclasses.asdict(coverage)})
        if options.output is not None:
            write_whole(options.output, csv_text(rows))
        if not options.json:
            print(f"{environment.name}, {variant}, {engine}: {coverage}", flush=True)
    if options.json:
        print(json_text(rows))
    return 0


def _forms(env: str, variant: Variant | None) -> tuple[str, ...]:
    """Return the variants to measure: all that the environment has, unless one is asked for."""
    if variant is not None:
        return (variant,)
    return VARIANTS if spec(registry.resolve(env)).paper_engine else VARIANTS[:1]


def _summary(name: str) -> dict[str, Any]:
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
        "presets": sorted(named_presets(name)),
        "random_actions": [_coverage_row(*form) for form in recorded_of(name)],
    }


def _coverage_row(variant: str, engine: str, coverage: Coverage) -> dict[str, Any]:
    return {"variant": variant, "engine": engine, **dataclasses.asdict(coverage)}


def _show(options: ShowOptions) -> int:
    about = _description(options.env, options.variant)
    if options.json:
        print(json_text(about))
        return 0
    console = Console()
    console.print(f"[bold]{escape(about['name'])}[/]: {escape(about['summary'])}", highlight=False)
    facts = Table(box=None, show_header=False)
    step = about["control_step"]
    facts.add_row("control step", "not known" if step is None else f"{step:g} s")
    facts.add_row("episode", f"{about['episode_length']} steps")
    facts.add_row("evaluated on", about["eval_env"])
    for engine in about["engines"]:
        default = " (default)" if engine["name"] == about["default_engine"] else ""
        needs = f"; needs {engine['needs']}" if engine["needs"] else ""
        facts.add_row("engine", escape(f"{engine['name']}{default}: {engine['summary']}{needs}"))
    if about["control_text"] is not None:
        facts.add_row("actions", escape(about["control_text"]))
    if about["success_text"] is not None:
        facts.add_row("success", escape(about["success_text"]))
    for part in about["randomized"]:
        facts.add_row("drawn", escape(part))
    for variant, engine, coverage in recorded_of(about["name"]):
        facts.add_row("random actions", escape(f"{variant}, {engine}: {coverage}"))
    for name, promise in about["presets"].items():
        facts.add_row("preset", escape(f"{name}: {promise}"))
    console.print(facts, highlight=False)
    for part in PARTS:
        entries = about[f"{part}_entries"]
        title = f"{part}: {'one of ' if part == 'action' and about['discrete_actions'] else ''}{about[f'{part}_size']}"
        console.print(f"\n[bold]{title}[/]", highlight=False)
        if entries is None:
            console.print(f"The task does not name the entries (its `{part}_names`).", highlight=False)
            continue
        columns = ["name", *(column for column in ("unit", "joint", "body") if any(one[column] for one in entries))]
        table = Table("entry", *columns, box=None, header_style="dim")
        for index, one in enumerate(entries):
            table.add_row(str(index), *(escape(one[column]) for column in columns))
        console.print(table, highlight=False)
    return 0


def _description(env: str, variant: Variant) -> dict[str, Any]:
    """Return everything that `envs show` prints."""
    entry = spec(registry.resolve(env))
    task = entry.make_task(variant)
    engines = [{"name": engine.name, "summary": engine.summary, "needs": engine.needs} for engine in engines_of(task)]
    step = getattr(task, "control_step", None)
    if step is None:  # then the engine has it
        step = make(env, variant=variant).control_step
    return {
        "name": entry.name,
        "summary": entry.summary,
        "variant": variant,
        "control_step": step,
        "episode_length": entry.episode_length,
        "eval_env": entry.eval_env or entry.name,
        "engines": engines,
        "default_engine": entry.engine_name("auto", variant),
        "random_actions": [_coverage_row(*form) for form in recorded_of(entry.name)],
        "presets": {name: one.promise for name, one in sorted(named_presets(registry.resolve(env)).items())},
        "discrete_actions": getattr(task, "discrete_actions", False),
        "control_text": told(task, "control_text", "control"),
        "success_text": told(task, "success_text", "success"),
        "randomized": list(getattr(task, "random_parts", ())),
        **{f"{part}_size": getattr(task, f"{part}_size") for part in PARTS},
        **{part: entry_names(task, part) for part in PARTS},
        **{f"{part}_entries": _entries(task, part) for part in PARTS},
    }


def _entries(task: Task, part: Part) -> list[dict[str, str]] | None:
    found = entries_of(task, part)
    return None if found is None else [entry._asdict() for entry in found]


def _check(options: CheckOptions) -> int:
    for name in ("num_envs", "num_steps"):
        check_count(name, getattr(options, name))
    check_seed(options.seed)
    environment = make(options.env, engine=options.engine, variant=options.variant)
    needed = options.num_envs * options.num_steps * BYTES_OF_A_STEP * environment.observation_size
    check_fits({f"{options.num_steps} steps of {options.num_envs} environments": needed}, "lower num_envs or num_steps")
    console = Console(stderr=True)
    findings: list[Finding] = []
    with console.status("") as status:
        for finding in check(
            environment,
            num_envs=options.num_envs,
            num_steps=options.num_steps,
            seed=options.seed,
            on_progress=lambda text: status.update(f"{environment.name}: {text}"),
        ):
            findings.append(finding)
    if options.json:
        print(json_text([dataclasses.asdict(finding) for finding in findings]))
    else:
        table = Table(box=None, show_header=False)
        for finding in findings:
            table.add_row(MARKS[finding.verdict], finding.name, finding.text)
        Console().print(table)
    return int(any(finding.verdict == "failed" for finding in findings))
