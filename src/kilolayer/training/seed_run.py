"""What belongs to one seed of a run: its directory, its metric sinks and its checkpoints."""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kilolayer.data import ReplayBuffer
from kilolayer.errors import ConfigurationError, RunError
from kilolayer.hosts import from_first_process, is_first_process
from kilolayer.runs.checkpoints import Checkpoints
from kilolayer.runs.clock import Clocks
from kilolayer.runs.config import TrainConfig
from kilolayer.runs.defaults import describe_engine
from kilolayer.runs.run_directory import RunDirectory
from kilolayer.runs.sinks import DiagnosticsFile, FileSink, Row, Sink, TensorBoardSink, WandbSink
from kilolayer.training.initial import begun_with
from kilolayer.training.policies import load_teacher, taught
from kilolayer.training.setup import Setup
from kilolayer.training.step import TrainState, begin_again, init_states, on_devices, state_shape


class SeedRun:
    """The run of one seed.

    Attributes:
        directory: holds all files of the run.
        config: the settings, with the seed.
        checkpoints: of the run.
        train_metrics: of the last training step, by their names in metrics.jsonl.
        seconds_before: training time of the run before it was resumed.
        set_aside: where checkpoints and metrics after the point of resuming are; None if there were none.
    """

    def __init__(self, directory: RunDirectory, config: TrainConfig, *, least_kept: int = 1):
        """Open the checkpoints of the run.

        Args:
            directory: of the run.
            config: the settings, with the seed.
            least_kept: checkpoints to keep if the settings ask for fewer.
        """
        self.directory, self.config = directory, config
        self.train_metrics: dict[str, float] = {}
        self.seconds_before = 0.0
        self.set_aside: Path | None = None
        self._open = ExitStack()
        self.checkpoints = Checkpoints(directory.checkpoints, keep=max(config.checkpoints_to_keep, least_kept))
        self._open.enter_context(closing(self.checkpoints))
        self._sinks: list[Sink] = []
        self._diagnostics: DiagnosticsFile | None = None

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.config.seed

    def restore(self, setup: Setup, step: int) -> TrainState:
        """Read the state of a checkpoint; see `Checkpoints.restore`."""
        return self.checkpoints.restore(state_shape(setup.at(self.checkpoints.clocks(step))), step)

    def begin(self, clocks: Clocks, *, keep_later: bool = True) -> None:
        """Remove rows and checkpoints after the point where the run starts or resumes, and open the sinks.

        Args:
            clocks: of that point.
            keep_later: keep them in `RUN/set-aside/` if there are checkpoints; rows alone are computed again.
        """
        if any(step > clocks.step for step in self.checkpoints.steps()):
            if keep_later:
                self.set_aside = Path(from_first_process(lambda: str(self.directory.set_aside(clocks.step))))
            self.checkpoints.drop_after(clocks.step, into=self.set_aside)
        first = is_first_process()
        self._files = FileSink(self.directory, clocks.step, writes=first)
        self._add(self._files)
        self.seconds_before = float(self.last_row.get("perf/seconds", 0.0))
        if not first:
            return
        self._diagnostics = DiagnosticsFile(self.directory, clocks.step)
        self.directory.record_system(describe_engine(self.config))
        if self.config.tensorboard:
            self._add(TensorBoardSink(self.directory, clocks.step))
        if self.config.wandb:
            self._add(WandbSink(self.directory, self.config.wandb_project, self.config.to_dict()))

    @property
    def rows(self) -> Sequence[Row]:
        """The rows of metrics.jsonl so far."""
        return self._files.rows

    @property
    def last_row(self) -> Mapping[str, Any]:
        """The last evaluation; empty before the first."""
        return self.rows[-1] if self.rows else {}

    def was_evaluated_at(self, clocks: Clocks) -> bool:
        """Return whether the last row is of this moment."""
        return bool(self.rows) and Clocks.of_row(self.last_row) == clocks

    def write(self, row: Row) -> None:
        """Write a row of metrics to every sink.

        Raises:
            RunError: if the run directory is gone.
            TrainingError: if the row cannot be written.
        """
        self.directory.check_present()
        for sink in self._sinks:
            sink.write(row)

    def write_diagnostics(self, row: Row) -> None:
        """Write a row of diagnostics; see `write`."""
        if self._diagnostics is not None:
            self._diagnostics.write(row)

    def close(self) -> None:
        """Close files and checkpoints."""
        self._open.close()

    def _add(self, sink: Sink) -> None:
        self._sinks.append(self._open.enter_context(closing(sink)))


def first_states(
    setup: Setup,
    runs: Sequence[SeedRun],
    *,
    resumed: bool,
    checkpoint: int | None = None,
    data: ReplayBuffer | None = None,
    homes: Sequence[jax.Device | None] | None = None,
) -> list[TrainState]:
    """Return the state of every seed to train from, all at the same point.

    Args:
        setup: the parts of the run.
        runs: one for each seed.
        resumed: the runs may have checkpoints.
        checkpoint: the checkpoint to resume from, by its step; None takes the latest that all seeds have.
        data: a replay buffer to learn from, if the run collects nothing. A checkpoint holds it too.
        homes: the device that has the state of each seed; None leaves all on one.

    Raises:
        RunError: if there is no such checkpoint, or one cannot be read.
        ConfigurationError: if the data are missing, or are not those of the checkpoint.
    """
    homes = homes or [None] * len(runs)
    step = _common_checkpoint(runs, checkpoint) if resumed else None
    if step is None:
        if data is None and not runs[0].config.collects:
            raise ConfigurationError("data is missing: the run collects nothing and has no checkpoint yet")
        states, teacher = init_states(setup, [run.seed for run in runs], data, homes), load_teacher(runs[0].config)
        states = [dataclasses.replace(one, agent=taught(runs[0].config, setup, one.agent, teacher)) for one in states]
        states = states if runs[0].config.init_from is None else begun_with(runs[0].config, states)
        return [on_devices(setup, state, home) for state, home in zip(states, homes, strict=True)]
    states = [on_devices(setup, run.restore(setup, step), home) for run, home in zip(runs, homes, strict=True)]
    if not setup.collector.resumes_exactly:
        states = [begin_again(setup, state, run.seed) for state, run in zip(states, runs, strict=True)]
    if data is not None and not all(_same(state.buffer, data) for state in states):
        raise ConfigurationError(f"data are not those that checkpoint {step} learned from; leave data out")
    return states


def _same(a: ReplayBuffer, b: ReplayBuffer) -> bool:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in pairs)


def _common_checkpoint(runs: Sequence[SeedRun], wanted: int | None) -> int | None:
    if wanted is not None:
        for run in runs:
            run.checkpoints.resolve(wanted)
        return wanted
    steps = {run.directory.path.name: run.checkpoints.steps() for run in runs}
    common = set.intersection(*map(set, steps.values()))
    if common:
        return max(common)
    if not all(steps.values()) and max(map(len, steps.values())) <= 1:
        return None  # stopped before, or while, the first checkpoints were saved
    listing = "; ".join(f"{name} has {', '.join(map(str, each)) or 'none'}" for name, each in steps.items())
    raise RunError(f"there is no checkpoint that all seeds have ({listing}); resume each of these runs alone")
