"""`kilolayer study`: one of the paper's studies, from one command to its table and figure."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from kilolayer.cli.options import parse
from kilolayer.errors import ConfigurationError, TrainingError, nearest_names
from kilolayer.experiments import (
    STUDIES,
    Case,
    Outcome,
    Size,
    Study,
    StudyStoppedError,
    run_study,
    table,
    write_results,
)
from kilolayer.training import parse_seeds


@dataclasses.dataclass(frozen=True)
class StudyOptions:
    """Run a study, or go on with it: what is finished is not run again. Without NAME, list the studies."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")] = ""
    """The study."""
    size: Size = "cpu"
    """What it is sized for: cpu (2 cores), gpu (one GPU) or paper (the published budget)."""
    seeds: str | None = None
    """Seeds of each case, such as 0..4; None takes as many as the study says."""
    dir: Path | None = None
    """Where the runs are kept; None takes runs/study-NAME-SIZE."""
    results: Path | None = None
    """Where curves.csv, study.json and the figure are written; None takes the directory of the runs."""
    only: tuple[str, ...] = ()
    """Take only the cases with these labels, such as agent=crl agent=sac depth=4."""
    dry_run: bool = False
    """List the cases, and run nothing."""
    json: bool = False
    """Print the table as one JSON list."""
    quiet: bool = False
    """Show no progress."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    options = parse(StudyOptions, arguments, command="study")
    if not options.name:
        for study in STUDIES.values():
            print(f"{study.name:12} {study.question}")
        return 0
    if options.name not in STUDIES:
        raise ConfigurationError(f"study {options.name!r} is unknown; {nearest_names(options.name, STUDIES)}")
    study = STUDIES[options.name]
    cases = _chosen(study.cases(options.size), options.only)
    if options.dry_run:
        for case in cases:
            print(f"{case.name}: {case.config.total_env_steps:,} env steps")
        return 0
    seeds = tuple(range(study.seeds)) if options.seeds is None else parse_seeds(options.seeds)
    directory = options.dir or Path("runs") / f"study-{study.name}-{options.size}"

    def tell(what: str) -> None:
        if not options.quiet:
            print(what, file=sys.stderr)

    outcomes: list[Outcome] = []
    failure: TrainingError | None = None
    try:
        for found in run_study(study, cases, seeds, directory, progress=not options.quiet, tell=tell):
            outcomes += found
            figure = write_results(study, outcomes, options.results or directory)
    except StudyStoppedError as stopped:
        print(stopped)
        return 128 + stopped.signal
    except TrainingError as error:
        if not outcomes:
            raise
        failure = error
    _print(study, outcomes, as_json=options.json)
    if not options.json:
        print(f"figure: {figure}")
    if failure is not None:
        raise failure
    return 0


def _chosen(cases: Sequence[Case], only: Sequence[str]) -> list[Case]:
    """Return the cases that have, for each label named, one of the values given.

    Raises:
        ConfigurationError: if a label or value is none of the grid.
    """
    wanted: dict[str, set[str]] = {}
    for text in only:
        label, _, value = text.partition("=")
        values = {str(case.labels[label]) for case in cases if label in case.labels}
        if value not in values:
            known = [
                f"{name}={one}" for name in cases[0].labels for one in dict.fromkeys(c.labels[name] for c in cases)
            ]
            raise ConfigurationError(f"only={text!r} names no cases; there are {', '.join(known)}")
        wanted.setdefault(label, set()).add(value)
    return [case for case in cases if all(str(case.labels[label]) in values for label, values in wanted.items())]


def _print(study: Study, outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    rows = table(study, outcomes)
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    labels = list(outcomes[0].case.labels)
    shown = Table(box=None)
    for name in (*labels, *(metric.split("/")[-1] for metric in study.metrics), "seconds"):
        shown.add_column(name, justify="left" if name in labels else "right")
    for row in rows:
        scores = [_with_error(row, metric) for metric in study.metrics]
        shown.add_row(*(str(row[label]) for label in labels), *scores, f"{row['seconds']:.0f}")
    Console().print(shown)


def _with_error(row: dict[str, Any], metric: str) -> str:
    value, error = row[metric], row[f"{metric}_stderr"]
    digits = 2 if "success" in metric else 1
    return f"{value:.{digits}f} ± {error:.{digits}f}"
