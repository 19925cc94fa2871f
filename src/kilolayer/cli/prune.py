"""`kilolayer prune`: what leaving out blocks of an actor does, and a smaller policy as a run of its own."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from kilolayer.cli.bench import table_lines
from kilolayer.cli.bench_options import Columns
from kilolayer.cli.options import parse
from kilolayer.cli.output import command, command_asked
from kilolayer.cli.train_results import print_outcome
from kilolayer.errors import ConfigurationError
from kilolayer.files import json_text
from kilolayer.kernel_choices import own_kernel_choices
from kilolayer.policies.pruning import Order
from kilolayer.progress import Activity
from kilolayer.report.pruning import POINTS, PrunedRow, check_writable, pruning_rows, write_pruning
from kilolayer.runs import RunDirectory
from kilolayer.system import describe_system
from kilolayer.training.pruning import EPISODES, STATES, prune, rank


@dataclasses.dataclass(frozen=True)
class PruneOptions:
    """Rank the blocks of the actor of RUN by what leaving each out does to its actions, and leave out one after
    another: a table and a figure of score, action error and time over the blocks that stay. With --keep, write the
    smaller policy as a run of its own, which eval, report, render and train --resume take."""

    FIRST: ClassVar[tuple[str, ...]] = ("keep", "fine-tune", "run-dir", "results", "episodes", "seed")
    """Flags that people use first."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Directory of a run."""
    checkpoint: str | None = None
    """Checkpoint: latest, best, or its env steps."""
    keep: int | None = None
    """Blocks that stay in the new run."""
    run_dir: Path | None = None
    """Directory of the run that --keep makes; None takes a new one under runs/."""
    fine_tune: int | None = None
    """With --keep: env steps of distillation from the whole policy after pruning. None takes none, and train --resume
    on the new run takes them later."""
    order: Order = "auto"
    """How blocks are chosen: again ranks those that are left after each choice; once ranks only before the first, for
    networks of hundreds of blocks; auto takes again up to 32 blocks."""
    states: int = STATES
    """States that actions are compared in."""
    episodes: int = EPISODES
    """Episodes, each with a start and goal of its own, that give the states and score each number of blocks."""
    seed: int = 0
    """Seed of all randomness, and of the new run."""
    points: int = POINTS
    """Without --keep: numbers of blocks that are looked at, at most."""
    calls: int = 200
    """Timed calls of each number of blocks, without --keep; 0 measures no time."""
    results: Path | None = None
    """Directory for results without --keep: table and figure; None takes RUN/figures."""
    json: bool = False
    """Print JSON: one object."""
    quiet: bool = False
    """Show no progress."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand and return the exit code."""
    options = parse(PruneOptions, arguments, command="prune")
    if options.keep is None:
        return _curve(options, command_asked("prune", *arguments))
    for name in ("points", "calls", "results"):
        if getattr(options, name) != getattr(PruneOptions, name):
            raise ConfigurationError(f"--{name} is for the table and the figure; leave it out with --keep")
    own_kernel_choices()
    result = prune(
        options.run,
        options.keep,
        run_dir=options.run_dir,
        checkpoint=options.checkpoint,
        fine_tune=options.fine_tune,
        progress=not options.quiet,
        settings={"seed": options.seed},
        **_ranking(options),
    )
    code = print_outcome([result], several=False, as_json=options.json)
    if options.fine_tune is None and not options.json:
        print(
            f"{options.keep} blocks; to fine-tune it by distillation: {command('train', '--resume', result.run.path)}"
        )
    return code


def _curve(options: PruneOptions, asked: str) -> int:
    for name in ("run_dir", "fine_tune"):
        if getattr(options, name) is not None:
            raise ConfigurationError(f"--{name.replace('_', '-')} needs --keep, the blocks that stay in the new run")
    figures = RunDirectory.open(options.run).figures
    directory = options.results or figures
    check_writable(directory)  # before minutes are spent
    with Activity() as activity:
        log = _silent if options.quiet else activity
        log("ranking blocks")
        pruning = rank(options.run, checkpoint=options.checkpoint, log=_counted(log), **_ranking(options))
        sizes = {"points": options.points, "episodes": options.episodes, "calls": options.calls}
        rows: list[PrunedRow] = []
        found = pruning_rows(options.run, pruning, **sizes, log=log)
        for line in table_lines(COLUMNS, _kept(found, rows)):
            if not options.json:
                with activity.aside():
                    print(line, flush=True)
    table, picture = write_pruning(directory, pruning, rows)
    if options.json:
        about = {"command": asked, "system": describe_system(), "ranking": list(pruning.order.alone)}
        print(json_text(about | {"rows": [dataclasses.asdict(row) for row in rows]}))
        return 0
    print(f"table: {table}\nfigure: {picture}")
    return 0


COLUMNS: Columns = {
    "blocks": lambda row: str(row.blocks),
    "depth": lambda row: str(row.depth),
    "left out": lambda row: "" if row.left_out is None else str(row.left_out),
    "action error": lambda row: f"{row.action_error:.4f}",
    "success_any": lambda row: f"{row.success_any:.3f}",
    "time_at_goal": lambda row: f"{row.time_at_goal:.1f} ± {row.time_at_goal_stderr:.1f}",
    "ms": lambda row: "" if row.act_seconds is None else f"{1e3 * row.act_seconds:.3f}",
}


def _ranking(options: PruneOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("order", "states", "episodes", "seed")}


def _counted(log: Any) -> Any:
    return lambda done, of: log(f"ranking blocks: {done} of {of}")


def _silent(text: str) -> None:
    del text


def _kept(found: Any, rows: list[PrunedRow]) -> Any:
    """Yield rows, and add each to a list."""
    for row in found:
        rows.append(row)
        yield row
