"""`kilolayer record`: write episodes of a run, or of random actions, as a data set."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from kilolayer.agents import ActionMode
from kilolayer.cli.options import parse
from kilolayer.data.datasets import write_dataset, written_formats
from kilolayer.data.datasets.sources import writer_of
from kilolayer.errors import RunError
from kilolayer.files import json_text
from kilolayer.runs.option_types import OptionalEngineOption
from kilolayer.training.recording import Actions, Exploring, record


@dataclasses.dataclass(frozen=True)
class RecordOptions:
    """Write episodes of the policy of RUN as a data set: kilolayer train --dataset OUTPUT learns from it."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Directory of a run; with --actions random also the name of an environment."""
    output: Path
    """Path to write: a file, or a folder for minari; it must not exist yet."""
    episodes: int = 128
    """Episodes, each with a start and goal of its own."""
    format: Annotated[str, tyro.conf.arg(help_behavior_hint=lambda default: _choices(default))] = "npz"
    """Format: the library's own (npz), OGBench's or Minari's. Files of your own can register others."""
    actions: Actions = "policy"
    """What chooses the actions: the run's policy, or random: uniform actions, whatever the goal."""
    mode: ActionMode = "deterministic"
    """How actions are chosen by the policy."""
    noise: float = 0.0
    """Standard deviation of the noise on the policy's actions, which span -1 to 1."""
    hold: int = 1
    """With --actions random: mean number of steps that an action lasts."""
    env: str | None = None
    """Environment to see it in; None takes the one that the run trains in."""
    engine: OptionalEngineOption = None
    """Physics engine; None selects the run's engine."""
    checkpoint: str | None = None
    """Checkpoint: latest, best, or its env steps."""
    seed: int = 0
    """Seed of all randomness: starts, goals and drawn actions."""
    json: bool = False
    """Print JSON: one object."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    options = parse(RecordOptions, arguments, command="record")
    writer_of(options.format)
    if options.output.exists() or options.output.is_symlink():
        raise RunError(f"{options.output} exists already; choose another --output")
    data = record(
        options.run,
        episodes=options.episodes,
        how=Exploring(options.actions, options.mode, options.noise, options.hold),
        env=options.env,
        engine=options.engine,
        checkpoint=options.checkpoint,
        seed=options.seed,
    )
    write_dataset(data, options.output, options.format)
    about = {"output": str(options.output), "format": options.format, "episodes": data.episodes, "steps": data.steps}
    if options.json:
        print(json_text(about))
    else:
        print(f"{options.output}: {data.episodes:,} episodes, {data.steps:,} steps, {options.format}")
    return 0


def _choices(default: str) -> str:
    return f"(default: {default}; one of {', '.join(written_formats())})"
