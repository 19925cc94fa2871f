"""`kilolayer export`: write a policy as a file that runs without the library."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from kilolayer.cli.options import parse
from kilolayer.errors import RunError
from kilolayer.files import json_text
from kilolayer.settings import check_count
from kilolayer.training.export import export_run


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write the policy of a run as a file that runs without the library, with its contract (policy.json).

    It is checked before it is kept: its actions are those of the library, within a tolerance that is printed.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Directory of a run, or of a policy."""
    format: str = "onnx"
    """Format. onnx: for ONNX Runtime, from Python, C++ and others. jax: StableHLO, which jax.export reads."""
    output: Path | None = None
    """Path to write: a directory, which must not exist yet; None takes RUN/export/FORMAT-ENV_STEPS."""
    checkpoint: str | None = None
    """Checkpoint: latest, best, or its env steps; or untrained. None takes the latest."""
    int8: bool = False
    """Round the weights of the blocks to 8 bits. At batch 1 that is faster where processors multiply bytes fast."""
    episodes: int = 128
    """Episodes, each with a start and goal of its own, to write beside the robot's model, for tasks with robots."""
    json: bool = False
    """Print JSON: one object."""

    def __post_init__(self) -> None:
        """Validate the number of episodes.

        Raises:
            ConfigurationError: if it is out of its range.
        """
        check_count("episodes", self.episodes)


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    options = parse(ExportOptions, arguments, command="export")
    if not options.run.is_dir():
        raise RunError(f"{options.run} is no directory of a run or a policy")
    exported = export_run(
        options.run,
        options.output,
        format=options.format,
        precision="int8" if options.int8 else "float32",
        checkpoint=options.checkpoint,
        episodes=options.episodes,
    )
    if options.json:
        print(json_text(dataclasses.asdict(exported) | {"directory": str(exported.directory)}))
        return 0
    print(f"export: {exported.directory}")
    for name in exported.files:
        print(f"  {name}")
    largest, allowed = f"{exported.largest_difference:.1e}", f"{exported.tolerance:g}"
    print(f"largest difference from the library's actions {largest}, allowed {allowed}")
    return 0
