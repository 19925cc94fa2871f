"""`kilolayer train`: train an agent, or resume a run."""

import functools
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from kilolayer.bench.plan import plan
from kilolayer.cli.options import HELP_FLAGS
from kilolayer.cli.output import command, exit_code_stands
from kilolayer.cli.train_options import TrainOptions, parse_train
from kilolayer.envs.check import ENDS_AT_ONCE
from kilolayer.errors import ConfigurationError
from kilolayer.files import json_text
from kilolayer.kernel_choices import own_kernel_choices
from kilolayer.runs import SeedGroup, parse_seeds
from kilolayer.training import TrainResult, choose_mode, train, train_seeds
from kilolayer.training.evaluation import ends_at_once, remarks

UNITS = ("_bytes", "_seconds", "_milliseconds", "_minutes")
"""Ends of names in a plan."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    if not any(argument.partition("=")[0] in (*HELP_FLAGS, "--resume") for argument in arguments):
        own_kernel_choices()  # before the defaults are known: engines may be timed for them
    options, changed = parse_train(arguments)
    if options.resume is None and options.checkpoint is not None:
        raise ConfigurationError(f"--checkpoint {options.checkpoint} needs --resume")
    show = not options.quiet
    started: Any = {"config": options.settings, "run_dir": options.run_dir, "progress": show}
    resumed: Any = {
        "resume": options.resume,
        "checkpoint": options.checkpoint,
        "keep_later": options.keep_later,
        "progress": show,
        **changed,
    }
    group = _group(options)
    if options.resume is not None:
        own_kernel_choices(options.resume if group is None else group.first_run().path)
    if options.dry_run:
        seeds: Any = {} if group is None else {"seeds": len(group.seeds), "mode": group.mode}
        _print_plan(plan(options.settings, timed=True, **seeds), as_json=options.json)
        return 0
    if group is None:
        results = [train(**(started if options.resume is None else resumed))]
    else:
        new = started | {"seeds": group.seeds, "mode": group.mode}
        results = train_seeds(**(new if options.resume is None else resumed))
    stopped_by = results[0].stopped_by
    code = 0 if stopped_by is None else 128 + stopped_by
    with exit_code_stands(code):
        if group is None:
            _print_result(results[0], as_json=options.json)
        else:
            _print_results(results, as_json=options.json)
    return code


def _group(options: TrainOptions) -> SeedGroup | None:
    """Return the seeds to train together; None for a lone run."""
    if options.seeds is not None:
        mode = choose_mode(options.seeds_mode, overlap=options.settings.overlap)
        return SeedGroup(options.run_dir or Path(), parse_seeds(options.seeds), mode)
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


def _as_data(result: TrainResult) -> dict[str, Any]:
    status = "finished" if result.stopped_by is None else "stopped"
    return {"run_dir": str(result.run.path), "status": status, **result.metrics}


def _print_results(results: Sequence[TrainResult], *, as_json: bool) -> None:
    """Print the results of several seeds: a line for each, and the mean."""
    if as_json:
        print(json_text([_as_data(result) for result in results]))
        return
    directory = results[0].run.path.parent
    if results[0].stopped_by is not None:
        print(f"stopped and saved at {results[0].clocks}; resume with: {command('train', '--resume', directory)}")
        return
    success = [result.metrics["eval/success_any"] for result in results]
    for result, value in zip(results, success, strict=True):
        print(f"{result.run.path}: success_any {value:.2f}, time_at_goal {result.metrics['eval/time_at_goal']:.0f}")
        _say_more(result)
    error = statistics.stdev(success) / len(success) ** 0.5 if len(success) > 1 else float("nan")
    print(
        f"finished {results[0].clocks} with each of {len(results)} seeds: success_any "
        f"{statistics.fmean(success):.3f} ± {error:.3f} (mean and standard error over seeds)"
    )


def _print_result(result: TrainResult, *, as_json: bool) -> None:
    if as_json:
        print(json_text(_as_data(result)))
        return
    if result.stopped_by is not None:
        print(f"stopped and saved at {result.clocks}; resume with: {command('train', '--resume', result.run.path)}")
        return
    metrics = result.metrics
    print(
        f"finished {result.clocks}: success_any {metrics['eval/success_any']:.2f}, "
        f"time_at_goal {metrics['eval/time_at_goal']:.0f} of {metrics['eval/episode_length']:.0f} steps; "
        f"next: {command('report', result.run.path)}"
    )
    _say_more(result)


def _say_more(result: TrainResult) -> None:
    """Say what the means of a finished run hide, and what makes it worthless."""
    for remark in remarks(result.metrics):
        print(f"{result.run.path}: {remark}")
    if ends_at_once(result.metrics):
        print(f"warning: {result.run.path}: {ENDS_AT_ONCE}", file=sys.stderr)
