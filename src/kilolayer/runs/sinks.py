"""Metric sinks: where rows of metrics go. Files always; TensorBoard and Weights & Biases when asked for."""

import csv
import importlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from kilolayer.errors import ConfigurationError, TrainingError
from kilolayer.runs.config import TrainConfig
from kilolayer.runs.run_directory import GROUP_FILE, RunDirectory

Row = Mapping[str, Any]


class Sink(Protocol):
    """Takes rows in the order of their env steps."""

    def write(self, row: Row) -> None:
        """Take one row."""
        ...

    def close(self) -> None:
        """Finish."""
        ...


class FileSink:
    """metrics.jsonl, one line for each row, and metrics.csv, the same as a table.

    Rows beyond the env steps at which the run goes on are dropped: they will come again.
    """

    def __init__(self, run: RunDirectory, env_steps: int):
        """Open the files, with the rows up to `env_steps` in them."""
        self._run = run
        self._rows = [row for row in run.metrics() if row["env_steps"] <= env_steps]
        with _file_errors(run):
            _rewrite(run.metrics_file, "".join(json.dumps(row) + "\n" for row in self._rows))
            self._write_table()

    @property
    def rows(self) -> Sequence[Row]:
        """All rows so far."""
        return self._rows

    def write(self, row: Row) -> None:
        """Append one row; it is on the disk when this returns.

        Raises:
            TrainingError: if the disk does not take it.
        """
        new_columns = not self._rows or set(row) - set(self._columns)
        self._rows.append(dict(row))
        with _file_errors(self._run):
            _append(self._run.metrics_file, row)
            if new_columns:
                self._write_table()
            else:
                with open(self._run.csv_file, "a", newline="") as file:
                    csv.DictWriter(file, self._columns).writerow(row)

    def close(self) -> None:
        """Nothing is left open."""

    def _write_table(self) -> None:
        self._columns = list(dict.fromkeys(name for row in self._rows for name in row))
        with open(self._run.csv_file.with_suffix(".partial"), "w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self._rows)
        self._run.csv_file.with_suffix(".partial").replace(self._run.csv_file)


class DiagnosticsFile:
    """diagnostics.jsonl, one line for each evaluation; rows beyond where the run goes on are dropped."""

    def __init__(self, run: RunDirectory, env_steps: int):
        """Keep the rows up to `env_steps`."""
        self._run = run
        rows = [row for row in run.diagnostics() if row["env_steps"] <= env_steps]
        with _file_errors(run):
            if rows or run.diagnostics_file.exists():
                _rewrite(run.diagnostics_file, "".join(json.dumps(row) + "\n" for row in rows))

    def write(self, row: Row) -> None:
        """Append one row; it is on the disk when this returns.

        Raises:
            TrainingError: if the disk does not take it.
        """
        with _file_errors(self._run):
            _append(self._run.diagnostics_file, row)


class TensorBoardSink:
    """TensorBoard event files in `RUN/tensorboard`."""

    def __init__(self, run: RunDirectory, env_steps: int):
        """Open an event file.

        Raises:
            ConfigurationError: if tensorboardX is not installed.
        """
        module = _optional("tensorboardX", "tensorboard")
        self._writer = module.SummaryWriter(str(run.path / "tensorboard"), purge_step=env_steps + 1)

    def write(self, row: Row) -> None:
        """Take one row."""
        for name, value in row.items():
            if "/" in name:
                self._writer.add_scalar(name, value, row["env_steps"])
        self._writer.flush()

    def close(self) -> None:
        """Finish the event file."""
        self._writer.close()


class WandbSink:
    """Weights & Biases, under the account that the user is logged in with."""

    def __init__(self, run: RunDirectory, project: str, config: dict[str, Any]):
        """Start, or go on with, the run there.

        Raises:
            ConfigurationError: if wandb is not installed.
        """
        module = _optional("wandb", "wandb")
        path = run.path.resolve()
        several = (path.parent / GROUP_FILE).is_file()
        name = f"{path.parent.name}-{path.name}" if several else path.name
        identity = run.path / "wandb-id"
        if not identity.exists():
            identity.write_text(f"{name}-{secrets.token_hex(4)}")
        self._run = module.init(
            project=project,
            name=name,
            group=path.parent.name if several else None,
            id=identity.read_text(),
            resume="allow",
            reinit="create_new",  # seeds that are trained side by side each have a run of their own
            config=config,
            dir=run.path,
        )

    def write(self, row: Row) -> None:
        """Take one row."""
        self._run.log(dict(row), step=row["env_steps"])

    def close(self) -> None:
        """Finish."""
        self._run.finish()


def require_extras(config: TrainConfig) -> None:
    """Refuse sinks whose packages are not installed, before anything is written.

    Raises:
        ConfigurationError: with the command that installs the package.
    """
    if config.tensorboard:
        _optional("tensorboardX", "tensorboard")
    if config.wandb:
        _optional("wandb", "wandb")


def _optional(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigurationError(
            f"{extra}=True needs {module}, which is not installed: pip install 'kilolayer[{extra}]'"
        ) from None


def _rewrite(path: Path, text: str) -> None:
    path.with_suffix(".partial").write_text(text)
    path.with_suffix(".partial").replace(path)


def _append(path: Path, row: Row) -> None:
    with open(path, "a") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _file_errors(run: RunDirectory) -> Iterator[None]:
    """Turn a disk's refusal into one line."""
    try:
        yield
    except OSError as error:
        raise TrainingError(f"metrics could not be written in {run.path}: {error.strerror or error}") from error
