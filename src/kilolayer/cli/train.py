"""`kilolayer train`: train an agent, or go on with a run."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from kilolayer.cli.options import HELP_FLAGS, parse
from kilolayer.errors import ConfigurationError
from kilolayer.training import RunDirectory, TrainConfig, TrainResult, default_config, read_config, train
from kilolayer.training.growth import GrowthSchedule
from kilolayer.training.plan import plan


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Train an agent in ENV, or go on with a run. Defaults suit the environment: --help after ENV shows them."""

    settings: Annotated[TrainConfig, tyro.conf.arg(name="")]
    run_dir: Path | None = None
    """Where the run is kept; None takes a fresh directory under runs/."""
    resume: Path | None = None
    """Go on with the run in this directory, bit for bit as if it had not stopped."""
    config: Path | None = None
    """Start a run with all settings from a config.json; flags beside it change single ones."""
    checkpoint: int | None = None
    """With --resume: env steps of the checkpoint to go on from; None takes the latest."""
    dry_run: bool = False
    """Print sizes, parameters, memory and compile time, and train nothing."""
    json: bool = False
    """Print the result, or the plan of a dry run, as one JSON object."""
    quiet: bool = False
    """Show no progress."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    options, changed = _parse(arguments)
    if options.dry_run:
        _print_plan(plan(options.settings), as_json=options.json)
        return 0
    if options.resume is not None:
        result = train(resume=options.resume, checkpoint=options.checkpoint, progress=not options.quiet, **changed)
    else:
        if options.checkpoint is not None:
            raise ConfigurationError(f"--checkpoint {options.checkpoint} needs --resume")
        result = train(config=options.settings, run_dir=options.run_dir, progress=not options.quiet)
    _print_result(result, as_json=options.json)
    return 0 if result.stopped_by is None else 128 + result.stopped_by


def _parse(arguments: Sequence[str]) -> tuple[TrainOptions, dict[str, Any]]:
    """Parse twice: once to learn what the defaults are, once on top of them.

    Returns:
        The options, and of the settings those that flags changed.
    """
    asked = [argument for argument in arguments if argument not in HELP_FLAGS]
    wants_help = len(asked) < len(arguments)
    first: Any = parse(_unchecked(), asked, command="train")
    if first.resume is not None:
        if first.settings.env or first.config or first.run_dir:
            raise ConfigurationError("--resume takes ENV, --config and --run-dir from the run; leave them out")
        base = RunDirectory.open(first.resume).config()
    elif first.config is not None:
        if first.settings.env:
            raise ConfigurationError("--config holds the env already; leave ENV out")
        base = read_config(first.config)
    elif first.settings.env:
        base = default_config(first.settings.env)
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


def _unchecked() -> type:
    """Return `TrainOptions` with settings of the same fields that are not checked: the defaults in force may differ.

    A depth that no flag sets is None.
    """
    fields = {f.name: (f.type, f.default) for f in dataclasses.fields(TrainConfig)} | {"depth": (int | None, None)}
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


def _print_result(result: TrainResult, *, as_json: bool) -> None:
    if as_json:
        status = "finished" if result.stopped_by is None else "stopped"
        print(json.dumps({"run_dir": str(result.run.path), "status": status, **result.metrics}, indent=2))
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
