"""`kilolayer compare`: any runs side by side, as the table and figure of a study."""

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from kilolayer.cli.options import parse
from kilolayer.cli.results_table import print_table
from kilolayer.studies import write_results
from kilolayer.studies.core.budgets import METRICS
from kilolayer.studies.core.compare import compare
from kilolayer.studies.core.results import PAGE


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Compare runs: those that differ by their seed alone are a row of the table and a curve of the figure."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
    """Run directories, directories of several seeds, or any with runs below, such as runs/studies."""
    metrics: tuple[str, ...] = METRICS
    """What to show, by the names in metrics.jsonl; eval/ can be left out."""
    results: Path = Path("runs") / "compare"
    """Where tables, figure and page are written."""
    json: bool = False
    """Print the table as one JSON list."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    options = parse(CompareOptions, arguments, command="compare")
    study, outcomes = compare(options.runs, metrics=options.metrics, tell=lambda text: print(text, file=sys.stderr))
    figure = write_results(study, outcomes, options.results, command=shlex.join(["kilolayer", "compare", *arguments]))
    print_table(study, outcomes, json=options.json)
    if not options.json:
        print(f"figure: {figure}\npage:   {figure.with_name(PAGE)}")
    return 0
