"""`kilolayer train`: train an agent, or go on with a run."""

import dataclasses
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from kilolayer.agents import AgentName
from kilolayer.cli.options import HELP_FLAGS, parse
from kilolayer.errors import ConfigurationError
from kilolayer.training import (
    RunDirectory,
    SeedGroup,
    TrainConfig,
    TrainResult,
    choose_mode,
    default_config,
    parse_seeds,
    read_config,
    train,
    train_seeds,
)
from kilolayer.training.growth import GrowthSchedule
from kilolayer.training.plan import plan
from kilolayer.training.seeds import SeedsModeChoice


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Train an agent in ENV, or go on with a run. Defaults suit the environment: --help after ENV shows them."""

    settings: Annotated[TrainConfig, tyro.conf.arg(name="")]
    run_dir: Path | None = None
    """Where the run is kept; None takes a fresh directory under runs/."""
    seeds: str | None = None
    """Train these seeds side by side, such as 0..7 or 0,3,5: runs RUN_DIR/seed-0 and so on, each as any other."""
    seeds_mode: SeedsModeChoice = "auto"
    """With --seeds: threads (each seed by the program that trains it alone, as many at once as there are cores; the
    fastest to the end of a short run on a CPU), vmap (one program for all seeds; on a CPU it has the faster step for
    small networks on a robot), or auto: threads on a CPU, vmap elsewhere."""
    resume: Path | None = None
    """Go on with the run, or the runs of several seeds, in this directory, bit for bit as if it had not stopped."""
    config: Path | None = None
    """Start a run with all settings from a config.json; flags beside it change single ones."""
    checkpoint: int | None = None
    """With --resume: env steps of the checkpoint to go on from; None takes the latest."""
    dry_run: bool = False
    """Print sizes, parameters, memory and compile time, and train nothing."""
    json: bool = False
    """Print the result, or the plan of a dry run, as one JSON object; with several seeds, a list of results."""
    quiet: bool = False
    """Show no progress."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    options, changed = _parse(arguments)
    if options.resume is None and options.checkpoint is not None:
        raise ConfigurationError(f"--checkpoint {options.checkpoint} needs --resume")
    show = not options.quiet
    started: Any = {"config": options.settings, "run_dir": options.run_dir, "progress": show}
    resumed: Any = {"resume": options.resume, "checkpoint": options.checkpoint, "progress": show, **changed}
    group = _group(options)
    if options.dry_run:
        seeds: Any = {} if group is None else {"seeds": len(group.seeds), "mode": group.mode}
        _print_plan(plan(options.settings, **seeds), as_json=options.json)
        return 0
    if group is None:
        results = [train(**(started if options.resume is None else resumed))]
        _print_result(results[0], as_json=options.json)
    else:
        new = started | {"seeds": group.seeds, "mode": group.mode}
        results = train_seeds(**(new if options.resume is None else resumed))
        _print_results(results, as_json=options.json)
    stopped_by = results[0].stopped_by
    return 0 if stopped_by is None else 128 + stopped_by


def _group(options: TrainOptions) -> SeedGroup | None:
    """Return the seeds that are to be trained side by side; None for a run alone."""
    if options.seeds is not None:
        return SeedGroup(options.run_dir or Path(), parse_seeds(options.seeds), choose_mode(options.seeds_mode))
    if options.resume is not None and SeedGroup.is_at(options.resume):
        return SeedGroup.open(options.resume)
    return None


def _parse(arguments: Sequence[str]) -> tuple[TrainOptions, dict[str, Any]]:
    """Parse twice: once to learn what the defaults are, once on top of them.

    Returns:
        The options, and of the settings those that flags changed.
    """
    asked = [argument for argument in arguments if argument not in HELP_FLAGS]
    wants_help = len(asked) < len(arguments)
    first: Any = parse(_unchecked(), asked, command="train")
    if first.seeds is None and first.seeds_mode != "auto":
        raise ConfigurationError(f"--seeds-mode {first.seeds_mode} needs --seeds")
    if first.seeds is not None and any(argument.split("=")[0] == "--seed" for argument in asked):
        raise ConfigurationError(f"--seed and --seeds {first.seeds} exclude each other; leave --seed out")
    if first.resume is not None:
        if first.settings.env or first.config or first.run_dir or first.seeds:
            raise ConfigurationError("--resume takes ENV, --config, --seeds and --run-dir from the run; leave them out")
        several = SeedGroup.is_at(first.resume)
        base = (SeedGroup.open(first.resume).runs[0] if several else RunDirectory.open(first.resume)).config()
    elif first.config is not None:
        if first.settings.env:
            raise ConfigurationError("--config holds the env already; leave ENV out")
        base = read_config(first.config)
    elif first.settings.env:
        agent = {} if first.settings.agent is None else {"agent": first.settings.agent}
        base = default_config(first.settings.env, **agent, **_sizes(first.settings))
    elif wants_help:
        base = TrainConfig()
    else:
        raise ConfigurationError("ENV is missing: kilolayer train ENV; `kilolayer envs` lists the environments")
    # The schedule sets the depth that no flag does; the default of the environment is not to stand against it.
    depth_follows = first.settings.grow is not None and first.settings.depth is None
    if depth_follows:
        arguments = [*arguments, f"--depth={GrowthSchedule.parse(first.settings.grow).final_depth}"]
    options = parse(TrainOptions, arguments, command="train", default=TrainOptions(base))
    settings = {f.name: getattr(options.settings, f.name) for f in dataclasses.fields(TrainConfig)}
    changed = {name: value for name, value in settings.items() if value != getattr(base, name)}
    if first.resume is not None:
        if depth_follows:  # it was not asked for; --grow is what cannot change
            changed.pop("depth", None)
        return options, changed
    # The positional ENV may be a file; its maze is in `base`.
    changed.pop("env", None)
    full = default_config(**(base.to_dict() | changed))
    return dataclasses.replace(options, settings=full), changed


def _sizes(settings: Any) -> dict[str, int]:
    """Return the numbers that flags set, but for the depth: defaults that suit an agent may follow from them."""
    names = [f.name for f in dataclasses.fields(TrainConfig) if f.type is int and f.name != "depth"]
    return {name: getattr(settings, name) for name in names if getattr(settings, name) is not None}


def _unchecked() -> type:
    """Return `TrainOptions` with settings of the same fields that are not checked: the defaults in force may differ.

    A number or an agent that no flag sets is None.
    """
    fields = {
        f.name: (int | None, None) if f.type is int else (f.type, f.default) for f in dataclasses.fields(TrainConfig)
    }
    fields |= {"agent": (AgentName | None, None)}
    settings = dataclasses.make_dataclass(
        "Settings", [(name, kind, dataclasses.field(default=default)) for name, (kind, default) in fields.items()]
    )
    others = [
        (f.name, f.type, dataclasses.field(default=f.default))
        for f in dataclasses.fields(TrainOptions)
        if f.name != "settings"
    ]
    unchecked: Any = Annotated[settings, tyro.conf.arg(name="")]
    return dataclasses.make_dataclass(
        "Options", [("settings", unchecked, dataclasses.field(default_factory=settings)), *others]
    )


def _print_plan(description: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(description, indent=2))
        return
    table = Table(box=None, show_header=False)
    for name, value in description.items():
        table.add_row(name.removesuffix("_bytes").removesuffix("_seconds").replace("_", " "), _readable(name, value))
    Console().print(table)


def _readable(name: str, value: Any) -> str:
    """Return a number with its unit, which the end of its name tells."""
    if value is None:
        return "unknown"
    if name.endswith("_bytes"):
        return f"{value / 2**20:,.1f} MiB"
    if name.endswith("_seconds"):
        return f"{value:.1f} s"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _as_data(result: TrainResult) -> dict[str, Any]:
    status = "finished" if result.stopped_by is None else "stopped"
    return {"run_dir": str(result.run.path), "status": status, **result.metrics}


def _print_results(results: Sequence[TrainResult], *, as_json: bool) -> None:
    """Print what became of several seeds: a line for each, and the mean."""
    if as_json:
        print(json.dumps([_as_data(result) for result in results], indent=2))
        return
    directory = results[0].run.path.parent
    if results[0].stopped_by is not None:
        steps = results[0].env_steps
        print(f"stopped and saved at {steps:,} env steps; go on with: kilolayer train --resume {directory}")
        return
    success = [result.metrics["eval/success_any"] for result in results]
    for result, value in zip(results, success, strict=True):
        print(f"{result.run.path}: success_any {value:.2f}, time_at_goal {result.metrics['eval/time_at_goal']:.0f}")
    error = statistics.stdev(success) / len(success) ** 0.5 if len(success) > 1 else float("nan")
    print(
        f"finished {results[0].env_steps:,} env steps with each of {len(results)} seeds: success_any "
        f"{statistics.fmean(success):.3f} ± {error:.3f} (mean and standard error over seeds)"
    )


def _print_result(result: TrainResult, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_as_data(result), indent=2))
        return
    if result.stopped_by is not None:
        print(
            f"stopped and saved at {result.env_steps:,} env steps; go on with: "
            f"kilolayer train --resume {result.run.path}"
        )
        return
    metrics = result.metrics
    print(
        f"finished {result.env_steps:,} env steps: success_any {metrics['eval/success_any']:.2f}, "
        f"time_at_goal {metrics['eval/time_at_goal']:.0f} of {metrics['eval/episode_length']:.0f} steps; "
        f"next: kilolayer report {result.run.path}"
    )
