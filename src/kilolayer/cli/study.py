"""`kilolayer study`: run a study, and write its table and figure."""

import dataclasses
import functools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from kilolayer.cli.lists import OptionalSeeds, Pairs, Words
from kilolayer.cli.options import parse
from kilolayer.cli.output import command_asked, complain
from kilolayer.cli.results_table import print_table
from kilolayer.cli.submitting import submitted
from kilolayer.cli.values import values
from kilolayer.errors import ConfigurationError, TrainingError
from kilolayer.kernel_choices import has_gpu, own_kernel_choices
from kilolayer.studies import (
    STUDIES,
    Case,
    Outcome,
    Size,
    Study,
    StudyStoppedError,
    Work,
    find_study,
    in_processes,
    in_turn,
    run_study,
    write_results,
)
from kilolayer.studies.core.recorded import read_results
from kilolayer.studies.core.results import PAGE
from kilolayer.studies.core.run import Workers
from kilolayer.studies.core.side_by_side import jobs_that_fit
from kilolayer.studies.core.study import nested

DIRECTORY = Path("runs") / "studies"
"""Default directory of the runs."""

WRITE_SECONDS = 30.0
"""Least time between two writes of tables and figure while cases end."""


@dataclasses.dataclass(frozen=True)
class StudyOptions:
    """Run a study or resume it; finished runs are not repeated. Without NAME, list the studies."""

    FIRST: ClassVar[tuple[str, ...]] = ("envs", "size", "set", "seeds", "only", "jobs", "run-dir", "results", "dry-run")
    """Flags that people use first."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")] = ""
    """Name of the study."""
    size: Size = "cpu"
    """Budget: cpu (2 cores), gpu (one GPU) or paper (the published budget)."""
    envs: Words = ()
    """Environments, such as reacher,ant, in place of the study's own."""
    set: Pairs = ()
    """Settings, such as width=128,crl.energy=dot, of all cases, over those of the size. What the study itself varies
    cannot be set."""
    limits: bool = False
    """Include the greatest depths, 256 and 1024."""
    seeds: OptionalSeeds = None
    """Seeds, such as 0..7 or 0,3,5, of each case; None takes the study's own number of seeds."""
    only: Pairs = ()
    """Run only the cases with these labels, such as agent=crl,agent=sac,depth=4."""
    jobs: int | None = None
    """Train this many cases at once, each in a process of its own. None trains one after another in this process; at
    size gpu, on a GPU, as many at once as its memory and the cores of the host allow."""
    submit: Pairs = ()
    """Submit the cases as jobs: slurm or local with submitit (extra cluster), ray with Ray (extra ray), and parameters,
    such as slurm,slurm_partition=gpu,gpus_per_node=1,timeout_min=600 or ray,num_gpus=1. --jobs limits how many run at
    once; default 16."""
    run_dir: Path | None = None
    """Directory of the runs; None takes runs/studies. Studies with common cases share their runs."""
    results: Path | None = None
    """Directory for results: tables, figure and page; None takes runs/studies/NAME-SIZE."""
    redraw: Path | None = None
    """Draw figure, tables and page again from the files in this directory, such as runs/studies/depth-cpu. Nothing is
    trained, and the runs may be gone."""
    dry_run: bool = False
    """Train nothing: list the cases with the share that is trained already."""
    json: bool = False
    """Print JSON: the table as a list."""
    quiet: bool = False
    """Show no progress."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand and return the exit code."""
    options = parse(StudyOptions, arguments, command="study")
    if options.redraw is not None:
        return _redraw(options.redraw, json=options.json)
    if not options.name:
        for study in STUDIES.values():
            print(f"{study.name:18} {study.question}")
        return 0
    study = find_study(options.name)
    apart = options.jobs is not None or bool(options.submit) or (options.size == "gpu" and has_gpu())
    if apart:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the memory of a GPU is for the cases
    else:
        own_kernel_choices()  # before engines are timed for the settings of the cases
    changes = nested(values(options.set, flag="set"))
    grid = study.grid(options.size, tasks=options.envs, limits=options.limits, changes=changes)
    cases = _chosen(grid, options.only)
    seeds = tuple(range(study.seeds)) if options.seeds is None else options.seeds
    if options.dry_run:
        for case in cases:
            share = Work(case, seeds, options.run_dir or DIRECTORY, study.data).share
            print(f"{case.name}: {len(seeds)} seeds, {case.config.timetable.end}, {share:.0%} trained")
        return 0
    workers = _workers(options, cases, seeds, apart=apart)
    return _run(study, cases, seeds, workers, options, asked=command_asked("study", *arguments))


def _run(
    study: Study,
    cases: Sequence[Case],
    seeds: Sequence[int],
    workers: Workers,
    options: StudyOptions,
    *,
    asked: str,
) -> int:
    directory = options.run_dir or DIRECTORY
    results = options.results or directory / f"{study.name}-{options.size}"

    def log(what: str) -> None:
        if not options.quiet:
            complain(what)

    found: list[list[Outcome]] = []

    def write() -> list[Outcome]:
        in_order = [one for own in sorted(found, key=lambda own: cases.index(own[0].case)) for one in own]
        write_results(study, in_order, results, command=asked)
        return in_order

    written = time.monotonic()
    failure: TrainingError | None = None
    try:
        for outcomes in run_study(study, cases, seeds, directory, workers=workers, log=log):
            found.append(outcomes)
            if time.monotonic() - written > WRITE_SECONDS:
                write()
                written = time.monotonic()
    except StudyStoppedError as stopped:
        if found:
            write()
        complain(str(stopped))
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


def _redraw(directory: Path, *, json: bool) -> int:
    study, outcomes, asked = read_results(directory)
    figure = write_results(study, outcomes, directory, command=asked)
    print_table(study, outcomes, json=json)
    if not json:
        print(f"figure: {figure}\npage:   {figure.with_name(PAGE)}")
    return 0


def _workers(options: StudyOptions, cases: Sequence[Case], seeds: Sequence[int], *, apart: bool) -> Workers:
    """Return what trains the cases: in processes of their own if `apart`, else one after another in this one."""
    if not apart:
        return functools.partial(in_turn, progress=not options.quiet)
    if options.submit:
        return submitted(options.submit, options.jobs)
    jobs = options.jobs
    if jobs is None:
        jobs = jobs_that_fit([case.config for case in cases], len(seeds))
        if not options.quiet:
            complain(f"{jobs} of {len(cases)} cases at once on the GPU; --jobs sets another number")
    return in_processes(jobs)


def _chosen(cases: Sequence[Case], only: Sequence[str]) -> list[Case]:
    """Return the cases that have one of the given values for each given label.

    Raises:
        ConfigurationError: if no case has a label or value, or no case has them all.
    """
    wanted: dict[str, set[str]] = {}
    for text in only:
        label, _, value = text.partition("=")
        if value not in {str(case.labels[label]) for case in cases if label in case.labels}:
            known = dict.fromkeys(f"{name}={one}" for case in cases for name, one in case.labels.items())
            raise ConfigurationError(f"only={text!r} matches no case; there are {', '.join(sorted(known))}")
        wanted.setdefault(label, set()).add(value)
    chosen = [case for case in cases if all(str(case.labels.get(label)) in of for label, of in wanted.items())]
    if not chosen:
        raise ConfigurationError(f"only={','.join(only)!r} matches no case: no case has all of these labels")
    return chosen
