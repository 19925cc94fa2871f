"""`kilolayer train`: train an agent, or resume a run."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from kilolayer.bench.plan import plan
from kilolayer.checkpoint_files import find_step
from kilolayer.cli.options import wants_help
from kilolayer.cli.together import together
from kilolayer.cli.train_options import TrainOptions, given_in, parse_train
from kilolayer.cli.train_results import print_outcome
from kilolayer.errors import ConfigurationError
from kilolayer.files import json_text
from kilolayer.hosts import is_first_process
from kilolayer.kernel_choices import own_kernel_choices
from kilolayer.runs import RunDirectory, SeedGroup
from kilolayer.training import choose_mode, train, train_seeds
from kilolayer.training.given_data import with_dataset

UNITS = ("_bytes", "_seconds", "_milliseconds", "_minutes")
"""Ends of names in a plan."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    with together({} if wants_help(arguments) else given_in(arguments)):
        return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    if not wants_help(arguments) and not any(argument.partition("=")[0] == "--resume" for argument in arguments):
        own_kernel_choices()  # before the defaults are known: engines may be timed for them
    options, changed = parse_train(arguments)
    if options.resume is None and options.checkpoint is not None:
        raise ConfigurationError(f"--checkpoint {options.checkpoint} needs --resume")
    show = not options.quiet
    started: Any = {"config": options.settings, "run_dir": options.run_dir, "progress": show}
    resumed: Any = {
        "resume": options.resume,
        "keep_later": options.keep_later,
        "progress": show,
        **changed,
    }
    group = _group(options)
    if options.checkpoint is not None and options.resume is not None:
        resumed["checkpoint"] = _step(options.checkpoint, options.resume, group)
    if options.resume is not None:
        own_kernel_choices(options.resume if group is None else group.first_run().path)
    if options.dry_run:
        seeds: Any = {} if group is None else {"seeds": len(group.seeds), "mode": group.mode}
        settings, _ = with_dataset(options.settings)
        settings = dataclasses.replace(settings, devices=1)  # one device is timed
        _print_plan(plan(settings, timed=True, **seeds), as_json=options.json)
        return 0
    if group is None:
        results = [train(**(started if options.resume is None else resumed))]
    else:
        new = started | {"seeds": group.seeds, "mode": group.mode}
        results = train_seeds(**(new if options.resume is None else resumed))
    return print_outcome(results, several=group is not None, as_json=options.json) if is_first_process() else 0


def _step(checkpoint: str, run: Path, group: SeedGroup | None) -> int:
    """Return the step of the checkpoint to go on from; of several seeds all have it.

    Raises:
        RunError: if there is no such checkpoint.
    """
    first = RunDirectory.open(run) if group is None else group.first_run()
    return find_step(first.checkpoints, checkpoint)


def _group(options: TrainOptions) -> SeedGroup | None:
    """Return the seeds to train together; None for a lone run."""
    if options.seeds is not None:
        devices = options.settings.devices
        mode = choose_mode(options.seeds_mode, overlap=options.settings.overlap, devices=devices)
        return SeedGroup(options.run_dir or Path(), options.seeds, mode, devices)
    if options.resume is not None and SeedGroup.is_at(options.resume):
        return SeedGroup.open(options.resume)
    return None


def _print_plan(description: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json_text(description))
        return
    table = Table(box=None, show_header=False)
    for name, value in description.items():
        label = functools.reduce(str.removesuffix, UNITS, name)
        table.add_row(label.replace("_", " "), _readable(name, value))
    Console().print(table)


def _readable(name: str, value: Any) -> str:
    """Return a number with its unit, which is the end of its name."""
    if value is None:
        return "unknown"
    if name.endswith("_bytes"):
        return f"{value / 2**20:,.1f} MiB"
    if name.endswith("_seconds"):
        return f"{value:.1f} s"
    if name.endswith("_milliseconds"):
        return f"{value:.3g} ms"
    if name.endswith("_minutes"):
        return f"{value:.1f} minutes" if value < 120 else f"{value / 60:.1f} hours"
    return f"{value:,}" if isinstance(value, int) else str(value)
