"""`kilolayer report`: write report.html and pictures of a run."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from kilolayer.cli.options import parse
from kilolayer.report import write_report


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """Write report.html, which needs nothing beside it, and its pictures as PNG."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Directory of a run."""
    checkpoint: str = "latest"
    """Checkpoint: latest, best, or its env steps."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    options = parse(ReportOptions, arguments, command="report")
    report = write_report(options.run, checkpoint=options.checkpoint)
    print(f"report: {report}")
    return 0
