"""Metric sinks: where rows of metrics are written. Files always; TensorBoard and Weights & Biases if they are on."""

import importlib
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from kilolayer.errors import ConfigurationError, TrainingError
from kilolayer.files import append_line, csv_text, json_text, unfinished_line, write_whole
from kilolayer.runs.clock import Clocks
from kilolayer.runs.config import TrainConfig
from kilolayer.runs.run_directory import RunDirectory
from kilolayer.runs.seed_group import SeedGroup

Row = Mapping[str, Any]


class Sink(Protocol):
    """Takes rows of metrics, in the order of their steps."""

    def write(self, row: Row) -> None:
        """Write one row."""
        ...

    def close(self) -> None:
        """Close the sink."""
        ...


class FileSink:
    """metrics.jsonl, one line for each row, and metrics.csv, the same as a table."""

    def __init__(self, run: RunDirectory, step: int, *, writes: bool = True):
        """Open the files, and delete rows after the step from which the run starts or resumes.

        Args:
            run: the run directory.
            step: as checkpoints are named; see `Clocks.step`.
            writes: else rows are only kept in memory: another process writes them.

        Raises:
            TrainingError: if a file cannot be written.
        """
        self._run, self._writes = run, writes
        self._rows = _rows_until(step, run.metrics())
        if not writes:
            return
        with _file_errors(run):
            _keep_until(run.metrics_file, self._rows)
            self._write_table()

    @property
    def rows(self) -> Sequence[Row]:
        """All rows so far."""
        return self._rows

    def write(self, row: Row) -> None:
        """Append one row; it is on the disk when this returns.

        Raises:
            TrainingError: if the row cannot be written.
        """
        new_columns = self._writes and (not self._rows or set(row) - set(self._columns))
        self._rows.append(dict(row))
        if not self._writes:
            return
        with _file_errors(self._run):
            append_line(self._run.metrics_file, json_text(row, indent=None) + "\n")
            if new_columns:
                self._write_table()
            else:
                append_line(self._run.csv_file, csv_text([row], self._columns, header=False))

    def close(self) -> None:
        """Do nothing: no file is open."""

    def _write_table(self) -> None:
        self._columns = list(dict.fromkeys(name for row in self._rows for name in row))
        write_whole(self._run.csv_file, csv_text(self._rows, self._columns))


class DiagnosticsFile:
    """diagnostics.jsonl, one line for each evaluation."""

    def __init__(self, run: RunDirectory, step: int):
        """Delete rows after the step from which the run starts or resumes; see `FileSink`."""
        self._run = run
        rows = _rows_until(step, run.diagnostics())
        with _file_errors(run):
            if rows or run.diagnostics_file.exists():
                _keep_until(run.diagnostics_file, rows)

    def write(self, row: Row) -> None:
        """Append one row; it is on the disk when this returns.

        Raises:
            TrainingError: if the row cannot be written.
        """
        with _file_errors(self._run):
            append_line(self._run.diagnostics_file, json_text(row, indent=None) + "\n")


class TensorBoardSink:
    """TensorBoard event files in `RUN/tensorboard`."""

    def __init__(self, run: RunDirectory, step: int):
        """Open an event file, and delete what comes after the step from which the run starts or resumes.

        Raises:
            ConfigurationError: if tensorboardX is not installed.
        """
        module = _optional("tensorboardX", "tensorboard")
        self._writer = module.SummaryWriter(str(run.path / "tensorboard"), purge_step=step + 1)

    def write(self, row: Row) -> None:
        """Write one row."""
        step = Clocks.of_row(row).step
        for name, value in row.items():
            if "/" in name:
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class WandbSink:
    """A run at Weights & Biases, in the account that the user is logged in with."""

    def __init__(self, run: RunDirectory, project: str, config: dict[str, Any]):
        """Start or resume the run there.

        Raises:
            ConfigurationError: if wandb is not installed.
        """
        module = _optional("wandb", "wandb")
        path = run.path.resolve()
        several = SeedGroup.is_at(path.parent)
        name = f"{path.parent.name}-{path.name}" if several else path.name
        identity = run.path / "wandb-id"
        if not identity.exists():
            write_whole(identity, f"{re.sub(r'[^A-Za-z0-9_.-]', '-', name)[:80]}-{secrets.token_hex(4)}")
        self._run = module.init(
            project=project,
            name=name,
            group=path.parent.name if several else None,
            id=identity.read_text(),
            resume="allow",
            reinit="create_new",  # seeds that are trained together have a run each
            config=config,
            dir=run.path,
        )

    def write(self, row: Row) -> None:
        """Write one row."""
        self._run.log(dict(row), step=Clocks.of_row(row).step)

    def close(self) -> None:
        """Close the run."""
        self._run.finish()


def require_extras(config: TrainConfig) -> None:
    """Validate that the packages of all sinks are installed, before a file is written.

    Raises:
        ConfigurationError: with the command that installs a missing package.
    """
    if config.tensorboard:
        _optional("tensorboardX", "tensorboard")
    if config.wandb:
        _optional("wandb", "wandb")


def _rows_until(step: int, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if Clocks.of_row(row).step <= step]


def _optional(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigurationError(
            f"{extra}=True needs {module}, which is not installed: pip install 'kilolayer[{extra}]'"
        ) from None


def _keep_until(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows that stay; a line that a crash cut short goes to a file of its own."""
    if cut := unfinished_line(path):
        append_line(path.with_name(f"{path.name}.cut"), cut.decode("utf-8", errors="backslashreplace") + "\n")
    write_whole(path, "".join(json_text(row, indent=None) + "\n" for row in rows))


@contextmanager
def _file_errors(run: RunDirectory) -> Iterator[None]:
    """Raise an OSError as a TrainingError of one line."""
    try:
        yield
    except OSError as error:
        raise TrainingError(f"metrics could not be written in {run.path}: {error.strerror or error}") from error
