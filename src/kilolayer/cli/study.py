"""`kilolayer study`: one of the paper's studies, from one command to its table and figure."""

import dataclasses
import functools
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from kilolayer.cli.options import parse
from kilolayer.cli.results_table import print_table
from kilolayer.cli.values import nested, values
from kilolayer.errors import ConfigurationError, TrainingError, nearest_names
from kilolayer.runs import parse_seeds
from kilolayer.studies import (
    STUDIES,
    Case,
    Outcome,
    Size,
    Study,
    StudyStoppedError,
    Work,
    by_submitit,
    in_processes,
    in_turn,
    run_study,
    write_results,
)
from kilolayer.studies.core.results import PAGE
from kilolayer.studies.core.run import Workers
from kilolayer.user_code import FLAG, imported

DIRECTORY = Path("runs") / "studies"
"""Where runs are kept unless asked otherwise."""

WRITE_SECONDS = 30.0
"""How often tables and figure are written again while cases end."""


@dataclasses.dataclass(frozen=True)
class StudyOptions:
    """Run a study, or go on with it: what is finished is not run again. Without NAME, list the studies."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")] = ""
    """The study."""
    size: Size = "cpu"
    """What it is sized for: cpu (2 cores), gpu (one GPU) or paper (the published budget)."""
    tasks: tuple[str, ...] = ()
    """Environments to ask the question in, in place of the study's own."""
    set: tuple[str, ...] = ()
    """Settings of every case, over the study's own, such as width=128 crl.energy=dot."""
    limits: bool = False
    """Take in the greatest depths too, 256 and 1024."""
    seeds: str | None = None
    """Seeds of each case, such as 0..4; None takes as many as the study says."""
    only: tuple[str, ...] = ()
    """Take only the cases with these labels, such as agent=crl agent=sac depth=4."""
    jobs: int | None = None
    """Train so many cases at once, each in a process of its own; None trains one after the other in this process."""
    submit: tuple[str, ...] = ()
    """Submit the cases as jobs to a cluster by submitit (an extra), with these parameters, such as cluster=slurm
    slurm_partition=gpu gpus_per_node=1 timeout_min=600; --jobs is how many may run at once, 16 unless given."""
    dir: Path | None = None
    """Where the runs are kept; None takes runs/studies. Studies that have cases in common share their runs."""
    results: Path | None = None
    """Where tables, figure and page are written; None takes runs/studies/NAME-SIZE."""
    dry_run: bool = False
    """List the cases and how much of each is trained already, and run nothing."""
    json: bool = False
    """Print the table as one JSON list."""
    quiet: bool = False
    """Show no progress."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    options = parse(StudyOptions, arguments, command="study")
    if not options.name:
        for study in STUDIES.values():
            print(f"{study.name:14} {study.question}")
        return 0
    if options.name not in STUDIES:
        raise ConfigurationError(f"study {options.name!r} is unknown; {nearest_names(options.name, STUDIES)}")
    study = STUDIES[options.name]
    workers = _workers(options)
    changes = nested(values(options.set, flag="set"))
    grid = study.grid(options.size, tasks=options.tasks, limits=options.limits, changes=changes)
    cases = _chosen(grid, options.only)
    seeds = tuple(range(study.seeds)) if options.seeds is None else parse_seeds(options.seeds)
    if options.dry_run:
        for case in cases:
            share = Work(case, seeds, options.dir or DIRECTORY).share
            print(f"{case.name}: {len(seeds)} seeds, {case.config.total_env_steps:,} env steps, {share:.0%} trained")
        return 0
    command = shlex.join(["kilolayer", *(f"{FLAG}={target}" for target in imported()), "study", *arguments])
    return _run(study, cases, seeds, workers, options, command=command)


def _run(
    study: Study,
    cases: Sequence[Case],
    seeds: Sequence[int],
    workers: Workers,
    options: StudyOptions,
    *,
    command: str,
) -> int:
    directory = options.dir or DIRECTORY
    results = options.results or directory / f"{study.name}-{options.size}"

    def tell(what: str) -> None:
        if not options.quiet:
            print(what, file=sys.stderr, flush=True)

    found: list[list[Outcome]] = []

    def write() -> list[Outcome]:
        in_order = [one for own in sorted(found, key=lambda own: cases.index(own[0].case)) for one in own]
        write_results(study, in_order, results, command=command)
        return in_order

    written = time.monotonic()
    failure: TrainingError | None = None
    try:
        for outcomes in run_study(study, cases, seeds, directory, workers=workers, tell=tell):
            found.append(outcomes)
            if time.monotonic() - written > WRITE_SECONDS:
                write()
                written = time.monotonic()
    except StudyStoppedError as stopped:
        if found:
            write()
        print(stopped, file=sys.stderr)
        return 128 + stopped.signal
    except TrainingError as error:
        if not found:
            raise
        failure = error
    print_table(study, write(), json=options.json)
    if not options.json:
        print(f"figure: {results / study.name}.png\npage:   {results / PAGE}")
    if failure is not None:
        raise failure
    return 0


def _workers(options: StudyOptions) -> Workers:
    if options.submit:
        return by_submitit(16 if options.jobs is None else options.jobs, values(options.submit, flag="submit"))
    if options.jobs is not None:
        return in_processes(options.jobs)
    return functools.partial(in_turn, progress=not options.quiet)


def _chosen(cases: Sequence[Case], only: Sequence[str]) -> list[Case]:
    """Return the cases that have, for each label named, one of the values given.

    Raises:
        ConfigurationError: if a label or value is none of the grid.
    """
    wanted: dict[str, set[str]] = {}
    for text in only:
        label, _, value = text.partition("=")
        if value not in {str(case.labels[label]) for case in cases if label in case.labels}:
            known = dict.fromkeys(f"{name}={one}" for case in cases for name, one in case.labels.items())
            raise ConfigurationError(f"only={text!r} names no cases; there are {', '.join(sorted(known))}")
        wanted.setdefault(label, set()).add(value)
    chosen = [case for case in cases if all(str(case.labels.get(label)) in of for label, of in wanted.items())]
    if not chosen:
        raise ConfigurationError(f"only={' '.join(only)!r}: each names cases, but none has them all")
    return chosen
