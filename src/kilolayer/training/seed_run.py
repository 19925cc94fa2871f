"""A run among those that a trainer moves together: its directory, its files and its checkpoints."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any

import jax

from kilolayer.errors import RunError
from kilolayer.runs.checkpoints import Checkpoints
from kilolayer.runs.run_directory import RunDirectory
from kilolayer.runs.sinks import DiagnosticsFile, FileSink, Row, Sink, TensorBoardSink, WandbSink
from kilolayer.training.setup import Setup
from kilolayer.training.step import TrainState, init_state, init_states


class Member:
    """What belongs to one seed alone. A run that is trained by itself is the only member.

    Attributes:
        seed: of the run.
        diagnostics: takes rows once the run has begun.
        train_metrics: of the last training step, by their names in metrics.jsonl.
        seconds_before: the training time of the run until it was stopped.
    """

    def __init__(self, run: RunDirectory, setup: Setup, *, least_kept: int = 1):
        """Open the run's checkpoints.

        Args:
            run: the run directory.
            setup: with the configuration of this run, as it is at env step 0.
            least_kept: checkpoints to keep if the configuration asks for fewer.
        """
        self.run, self.setup, self.config = run, setup, setup.config
        self.seed = self.config.seed
        self.train_metrics: dict[str, float] = {}
        self.seconds_before = 0.0
        self._open = ExitStack()
        self.checkpoints = Checkpoints(run.checkpoints, keep=max(self.config.checkpoints_to_keep, least_kept))
        self._open.enter_context(closing(self.checkpoints))
        self._sinks: list[Sink] = []

    def restore(self, step: int) -> TrainState:
        """Read the state at a checkpoint; see `Checkpoints.restore`."""
        setup = self.setup.at(step)
        return self.checkpoints.restore(jax.eval_shape(lambda: init_state(setup)), step)

    def begin(self, env_steps: int) -> None:
        """Drop what the run holds beyond `env_steps`, which it goes on from, and take rows."""
        self.checkpoints.drop_after(env_steps)
        self._files = FileSink(self.run, env_steps)
        self._add(self._files)
        self.diagnostics = DiagnosticsFile(self.run, env_steps)
        self.seconds_before = float(self.last_row.get("perf/seconds", 0.0))
        self.run.record_system()
        if self.config.tensorboard:
            self._add(TensorBoardSink(self.run, env_steps))
        if self.config.wandb:
            self._add(WandbSink(self.run, self.config.wandb_project, self.config.to_dict()))

    @property
    def rows(self) -> Sequence[Row]:
        """The rows of metrics.jsonl so far."""
        return self._files.rows

    @property
    def last_row(self) -> Mapping[str, Any]:
        """The last evaluation; empty before the first."""
        return self.rows[-1] if self.rows else {}

    def write(self, row: Row) -> None:
        """Write a row of metrics everywhere."""
        for sink in self._sinks:
            sink.write(row)

    def close(self) -> None:
        """Close files and checkpoints."""
        self._open.close()

    def _add(self, sink: Sink) -> None:
        self._sinks.append(self._open.enter_context(closing(sink)))


def states_to_begin_with(members: Sequence[Member], *, resumed: bool, checkpoint: int | None) -> list[TrainState]:
    """Return each member's state, all at the same env steps: new ones, or those of the latest checkpoint that all have.

    Args:
        members: which differ by their seeds alone.
        resumed: the runs may have checkpoints.
        checkpoint: env steps of the checkpoint to take; None for the latest.

    Raises:
        RunError: if there is no such checkpoint, or one cannot be read.
    """
    step = _common_checkpoint(members, checkpoint) if resumed else None
    if step is None:
        return init_states(members[0].setup, [member.seed for member in members])
    return [member.restore(step) for member in members]


def _common_checkpoint(members: Sequence[Member], wanted: int | None) -> int | None:
    if wanted is not None:
        for member in members:
            member.checkpoints.resolve(wanted)
        return wanted
    steps = {member.run.path.name: member.checkpoints.steps() for member in members}
    common = set.intersection(*map(set, steps.values()))
    if common:
        return max(common)
    if not all(steps.values()) and max(map(len, steps.values())) <= 1:
        return None  # stopped before, or while, the first checkpoints were saved
    listing = "; ".join(f"{name} has {', '.join(map(str, each)) or 'none'}" for name, each in steps.items())
    raise RunError(f"there is no checkpoint that all seeds have ({listing}); --resume each of these runs alone")
