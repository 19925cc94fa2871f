"""`kilolayer demo`: train an agent in a maze, and show what it learnt. Nothing but the package is needed."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kilolayer.cli.options import parse
from kilolayer.cli.output import command
from kilolayer.errors import ConfigurationError
from kilolayer.kernel_choices import own_kernel_choices
from kilolayer.report import write_report
from kilolayer.runs import RunDirectory, default_config
from kilolayer.settings import check_seed
from kilolayer.training import train

ENV = "point_u_maze"
"""A disc in a maze that is shaped like a U."""

DIRECTORY = Path("runs") / "demo"
"""Default directory of the run with seed 0; others have their seed behind it."""

PICTURE = "overview.png"
"""Curve, paths and map beside each other, in the figures of a report."""


@dataclasses.dataclass(frozen=True)
class DemoOptions:
    """Train an agent in a maze with the settings that suit it, and write its report: two commands in one.

    An agent that nobody tells anything learns to drive a disc through a maze. It takes two or three minutes on two
    cores. When it is interrupted, the same command resumes it.
    """

    seed: int = 0
    """Seed of all randomness."""
    run_dir: Path | None = None
    """Directory of the run; None takes runs/demo, or runs/demo-seedN for another seed than 0."""
    quiet: bool = False
    """Show no progress."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand and return the exit code."""
    options = parse(DemoOptions, arguments, command="demo")
    check_seed(options.seed)
    directory = options.run_dir or (DIRECTORY if options.seed == 0 else Path(f"{DIRECTORY}-seed{options.seed}"))
    begun: Any = {"resume": directory} if _begun(directory, options.seed) else _new(directory, options.seed)
    own_kernel_choices()
    result = train(**begun, progress=not options.quiet)
    if result.stopped_by is not None:
        print(f"stopped and saved at {result.clocks}; resume with: {command('demo', *arguments)}")
        return 128 + result.stopped_by
    metrics = result.metrics
    report = write_report(directory)
    print(
        f"It reaches {metrics['eval/success_any']:.0%} of the goals, after {result.clocks}.\n"
        f"picture: {RunDirectory(directory).figures / PICTURE}\n"
        f"report:  {report} (open it in a browser)\n"
        f"next:    {command('train', ENV, '--depth', 16)}, or another of: {command('envs')}"
    )
    return 0


def _new(directory: Path, seed: int) -> dict[str, Any]:
    return {"config": default_config(ENV, seed=seed), "run_dir": directory}


def _begun(directory: Path, seed: int) -> bool:
    """Return whether the run was begun before.

    Raises:
        ConfigurationError: if the directory holds a run that is not this demo's.
    """
    run = RunDirectory(directory)
    if not run.config_file.exists():
        return False
    config = RunDirectory.open(directory).config()
    if (config.env, config.seed) != (ENV, seed):
        raise ConfigurationError(
            f"run_dir={str(directory)!r} holds a run in {config.env} with seed {config.seed}; choose another directory"
        )
    return True
