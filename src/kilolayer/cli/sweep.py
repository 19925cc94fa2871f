"""`kilolayer sweep`: try settings that Optuna chooses, and write their table and figure."""

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from kilolayer.cli.lists import Pairs, Seeds
from kilolayer.cli.options import parse
from kilolayer.cli.output import command, command_asked, complain
from kilolayer.cli.results_table import print_table
from kilolayer.cli.submitting import submitted
from kilolayer.cli.values import values
from kilolayer.errors import TrainingError
from kilolayer.settings import check_count
from kilolayer.studies import (
    Outcome,
    SpaceError,
    Study,
    StudyStoppedError,
    Sweep,
    in_processes,
    run_sweep,
    sweep_results,
    write_results,
)
from kilolayer.studies.core.results import PAGE
from kilolayer.studies.core.study import nested
from kilolayer.studies.sweep.plan import SWEEP_FILE, Direction, Pruner, Sampler
from kilolayer.studies.sweep.results import best_run
from kilolayer.studies.sweep.run import open_journal

if TYPE_CHECKING:
    from kilolayer.studies.sweep.journal import Journal

DIRECTORY = Path("runs") / "sweeps"
"""Default directory of sweeps."""

WRITE_SECONDS = 30.0
"""Least time between two writes of tables and figure while trials end."""


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """Try settings from a space, chosen by Optuna, or resume a sweep. Several of these commands, also on several
    machines with one file system, share a sweep: start the same one again.

    A space is a YAML or JSON file, with lines such as `depth: [4, 8, 16]` and
    `crl.critic_learning_rate: {low: 1e-4, high: 3e-3, log: true}`."""

    FIRST: ClassVar[tuple[str, ...]] = ("space", "trials", "metric", "seeds", "set", "jobs", "run-dir", "dry-run")
    """Flags that people use first."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")]
    """Environment to train in."""
    space: Path
    """File with the settings to try: for each a list of values, or low and high with log, step or int."""
    trials: int = 50
    """Trials in all, those of earlier starts and of other processes included."""
    metric: str = Sweep.metric
    """What counts: a name in metrics.jsonl, such as success_any; eval/ can be left out."""
    direction: Direction = "maximize"
    """Whether much of it is good, or little."""
    last: int = Sweep.last
    """Evaluations at the end of a run whose mean is its score."""
    seeds: Seeds = (0,)
    """Seeds, such as 0..7 or 0,3,5, of each trial; its score is the mean over them."""
    set: Pairs = ()
    """Settings, such as width=128,crl.energy=dot, of all trials."""
    sampler: Sampler = "tpe"
    """What chooses: tpe, which looks where good trials are after ten at random, or random."""
    pruner: Pruner = "median"
    """What ends trials early: median, if the best score so far is below the median of the trials before at the same
    evaluation, or none."""
    seed: int = 0
    """Seed of all randomness in what is tried. Trials train with those of --seeds."""
    jobs: int | None = None
    """Train this many trials at once, each in a process of its own; None takes 1, or with --submit 16."""
    submit: Pairs = ()
    """Submit trials as jobs: slurm or local with submitit (extra cluster), ray with Ray (extra ray), and parameters,
    such as slurm,slurm_partition=gpu,gpus_per_node=1 or ray,num_gpus=1."""
    run_dir: Path | None = None
    """Directory of the runs, and of the journal of the sweep; None takes runs/sweeps/ENV-SPACE. A sweep resumes in its
    own."""
    results: Path | None = None
    """Directory for results: tables, figure and page; None takes that of the runs."""
    dry_run: bool = False
    """Train nothing: check the space, and list what is tried and how many trials have ended."""
    json: bool = False
    """Print JSON: the table as a list, the best trial first."""
    quiet: bool = False
    """Show no progress."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand and return the exit code."""
    options = parse(SweepOptions, arguments, command="sweep")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the memory of a GPU is for the trials
    check_count("trials", options.trials)
    try:
        sweep = _sweep(options)
    except SpaceError as error:
        for mistake in error.mistakes:
            complain(f"kilolayer: error: {mistake}")
        return 2
    directory = options.run_dir or DIRECTORY / f"{_name(options.env)}-{options.space.stem}"
    if options.dry_run:
        return _list(sweep, directory, options.trials)
    executor = (
        submitted(options.submit, options.jobs)
        if options.submit
        else in_processes(1 if options.jobs is None else options.jobs)
    )
    asked = command_asked("sweep", *arguments)
    results = options.results or directory

    def log(what: str) -> None:
        if not options.quiet:
            complain(what)

    latest: Journal | None = None
    written, code = time.monotonic(), 0
    failure: TrainingError | None = None
    try:
        for latest in run_sweep(sweep, directory, options.trials, executor=executor, log=log):
            if time.monotonic() - written > WRITE_SECONDS:
                _write(latest, results, asked)
                written = time.monotonic()
    except StudyStoppedError as stopped:
        complain(f"stopped and saved; start the same sweep again to resume in {directory}")
        code = 128 + stopped.signal
    except TrainingError as error:
        failure = error
    with open_journal(sweep, directory) as journal:
        study, outcomes = _write(journal, results, asked)
    if outcomes and code == 0:
        print_table(study, outcomes, json=options.json)
        if not options.json:
            _print_files(study, outcomes, results)
    if failure is not None:
        raise failure
    return code


def _sweep(options: SweepOptions) -> Sweep:
    return Sweep.read(
        options.env,
        options.space,
        nested(values(options.set, flag="set")),
        metric=options.metric if "/" in options.metric else f"eval/{options.metric}",
        direction=options.direction,
        last=options.last,
        seeds=options.seeds,
        sampler=options.sampler,
        pruner=options.pruner,
        seed=options.seed,
    )


def _name(env: str) -> str:
    """Return an environment as the name of a directory."""
    return Path(env).stem if env.endswith(".txt") else env.replace(":", "_").replace("/", "_")


def _list(sweep: Sweep, directory: Path, trials: int) -> int:
    for name, parameter in sweep.space.parameters.items():
        written = parameter.as_data()
        text = ", ".join(
            map(str, written) if isinstance(written, list) else (f"{key} {value}" for key, value in written.items())
        )
        print(f"{name}: {text}")
    size = sweep.space.size
    many = "any number of" if size is None else f"{size:,}"
    seeds, end = len(sweep.seeds), sweep.config(sweep.space.first()).timetable.end
    print(f"{many} combinations; {trials} trials of {seeds} seed{'s' if seeds > 1 else ''}, {end} each unless swept")
    if (directory / SWEEP_FILE).exists():
        with open_journal(sweep, directory) as journal:
            ended = sum(one.state.is_finished() for one in journal.trials())
            print(f"{ended} trials have ended in {directory}")
    return 0


def _write(journal: "Journal", results: Path, asked: str) -> tuple[Study, list[Outcome]]:
    """Write the results so far, if a trial has any."""
    study, outcomes = sweep_results(journal)
    if outcomes:
        write_results(study, outcomes, results, command=asked)
    return study, outcomes


def _print_files(study: Study, outcomes: Sequence[Outcome], results: Path) -> None:
    print(f"figure: {results / study.name}.png\npage:   {results / PAGE}")
    best = best_run(outcomes)
    if best is not None:
        print(f"best:   {command('train', '--config', best / 'config.json')}")
