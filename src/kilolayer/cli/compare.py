"""`kilolayer compare`: compare any runs, with the table and figure of a study."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from kilolayer.cli.lists import Words
from kilolayer.cli.options import parse
from kilolayer.cli.output import command_asked
from kilolayer.cli.results_table import print_table
from kilolayer.studies import write_results
from kilolayer.studies.core.budgets import METRICS
from kilolayer.studies.core.compare import compare
from kilolayer.studies.core.results import PAGE


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Compare runs. Runs that differ only in their seed are one row of the table and one curve of the figure."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
    """Directories of runs, of several seeds, or directories with runs below, such as runs/studies."""
    metrics: Words = METRICS
    """Metrics to show, such as success_any,train/critic_loss: their names in metrics.jsonl; eval/ can be left out."""
    results: Path = Path("runs") / "compare"
    """Directory for results: tables, figure and page."""
    json: bool = False
    """Print JSON: the table as a list."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand and return the exit code."""
    options = parse(CompareOptions, arguments, command="compare")
    study, outcomes = compare(options.runs, metrics=options.metrics, log=lambda text: print(text, file=sys.stderr))
    figure = write_results(study, outcomes, options.results, command=command_asked("compare", *arguments))
    print_table(study, outcomes, json=options.json)
    if not options.json:
        print(f"figure: {figure}\npage:   {figure.with_name(PAGE)}")
    return 0
