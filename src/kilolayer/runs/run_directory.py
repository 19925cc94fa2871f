"""The run directory: every file of a run, and everything that is needed to resume it.

config.json         every setting; this file alone can start the run again
system.json         versions, source commit and hardware, one entry for each time the run was started or resumed
metrics.jsonl       one line for each evaluation
metrics.csv         the same as a table
diagnostics.jsonl   measurements inside the networks at each evaluation, if the setting diagnostics is on
checkpoints/        one directory for each checkpoint, named by env steps; by gradient steps if nothing is collected
kernels/            on a GPU, which kernels XLA chose; a resumed run computes with the same
set-aside/          checkpoints and metrics after the checkpoint that the run was resumed from, if it was not the latest
figures/            pictures, and report.html beside it

Seeds that were trained together are run directories seed-0, seed-1, ... in a directory that also holds seeds.json.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from kilolayer.checkpoint_files import CHECKPOINTS
from kilolayer.errors import ConfigurationError, RunError, UnknownNameError
from kilolayer.files import locked, read_rows, refuse_links, remove_partial, unused_directory, write_json
from kilolayer.kernel_choices import keep_choices
from kilolayer.runs.config import TrainConfig
from kilolayer.runs.old_format import upgrade_settings
from kilolayer.system import describe_system
from kilolayer.user_code import not_imported

RUN_FORMAT = 2
"""Format of a run directory. It increases when another version would misread config.json or a checkpoint.

1: up to version 0.1. 2: checkpoints hold both clocks, and the state of the collector as `collector`.
"""


class RunDirectory:
    """Paths and small files of one run."""

    def __init__(self, path: str | os.PathLike):
        """Set the paths; nothing is read or written."""
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.system_file = self.path / "system.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.csv_file = self.path / "metrics.csv"
        self.diagnostics_file = self.path / "diagnostics.jsonl"
        self.checkpoints = self.path / CHECKPOINTS
        self.figures = self.path / "figures"
        self.report_file = self.path / "report.html"

    @classmethod
    def create(cls, path: str | os.PathLike, config: TrainConfig) -> "RunDirectory":
        """Make the directory and write its configuration.

        Raises:
            RunError: if the directory holds a run already, holds links, or cannot be written.
        """
        run = cls(path)
        if run.config_file.exists():
            raise RunError(f"{run.path} holds a run already; resume it, or choose another run_dir")
        refuse_links(run.path)
        with write_errors(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
        run.write_config(config)
        return run

    @classmethod
    def open(cls, path: str | os.PathLike) -> "RunDirectory":
        """Find the run in an existing directory.

        Raises:
            RunError: if there is no run, or the directory holds links.
        """
        run = cls(path)
        if not run.path.is_dir():
            raise RunError(f"{run.path} is not a run directory: there is no such directory")
        if not run.config_file.is_file():
            inside = sorted(str(file.parent) for file in run.path.glob("seed-*/config.json"))
            hint = f"; it holds {len(inside)} of them, as {inside[0]}" if inside else ""
            raise RunError(f"{run.path} is not a run directory: it has no config.json{hint}")
        refuse_links(run.path)
        return run

    def check_present(self) -> None:
        """Check that nobody deleted or moved the directory while the run is training.

        Raises:
            RunError: if its configuration is gone. Writers would make a directory that cannot be resumed.
        """
        if not self.config_file.is_file():
            raise RunError(f"{self.path} was deleted or moved while the run was training: config.json is gone")

    def config(self) -> TrainConfig:
        """Read the configuration.

        Raises:
            RunError: if the file cannot be read, or was written in another format.
            ConfigurationError: if a setting in it is invalid.
        """
        with self.explain_unknown_names():
            config = read_config(self.config_file)
        for name, env in (("env", config.env), ("eval_env", config.eval_env or "")):
            if env.endswith(".txt"):
                raise RunError(
                    f"{self.config_file}: {name}={env!r} is a path, and a run keeps its maze as text; write "
                    "the rows of the maze there"
                )
        return config

    def check_resumable(self) -> None:
        """Check that this version can resume the run.

        Raises:
            RunError: if an older version wrote it, or config.json cannot be read.
        """
        found, _ = _read_settings(self.config_file)
        if found < RUN_FORMAT:
            raise RunError(
                f"{self.path} was written by an older kilolayer (format {found}) and can be evaluated, rendered and "
                "reported, but not resumed; resume it with kilolayer 0.1.0, or train a new run"
            )

    def write_config(self, config: TrainConfig) -> None:
        """Write the configuration; the file is whole or absent.

        Raises:
            RunError: if the directory cannot be written.
        """
        with write_errors(self.path):
            write_json(self.config_file, {"format": RUN_FORMAT, **config.to_dict()})

    def record_system(self, engine: Mapping[str, Any]) -> None:
        """Add versions and hardware to system.json, when the run is started or resumed.

        Args:
            engine: name and, if engines were timed, their speeds.
        """
        with write_errors(self.path):
            write_json(self.system_file, [*self._entries(), describe_system() | {"engine": dict(engine)}])

    def keep_kernel_choices(self) -> None:
        """On a GPU, copy the choices of kernels to the run, and say in system.json what was chosen.

        Raises:
            RunError: if the directory cannot be written.
        """
        with write_errors(self.path):
            about, entries = keep_choices(self.path), self._entries()
            if about is not None and entries and isinstance(entries[-1], dict) and entries[-1].get("kernels") != about:
                write_json(self.system_file, [*entries[:-1], entries[-1] | {"kernels": about}])

    @contextmanager
    def explain_unknown_names(self) -> Iterator[None]:
        """Say of a name that is unknown which files the run was trained with, if they are not imported here.

        Raises:
            UnknownNameError: in place of one without files.
        """
        try:
            yield
        except UnknownNameError as error:
            missing = not_imported(self._last_entry().get("imported", ()))
            if not missing:
                raise
            told = ", ".join(f"{target} ({remark})" if remark else target for target, remark in missing.items())
            explained = UnknownNameError(f"{error}; {self.path} was trained with {told}")
            explained.files = tuple(missing)
            raise explained from error

    def _entries(self) -> list[Any]:
        """Return the entries of system.json; none if it cannot be read."""
        try:
            entries = json.loads(self.system_file.read_text())
        except (OSError, ValueError, RecursionError):
            return []
        return entries if isinstance(entries, list) else []

    def _last_entry(self) -> dict[str, Any]:
        """Return what system.json says of the last time that the run was started or resumed."""
        entries = self._entries()
        return entries[-1] if entries and isinstance(entries[-1], dict) else {}

    def versions(self) -> dict[str, str]:
        """Return the versions of packages when the run was last started or resumed; empty if they were not recorded."""
        versions = self._last_entry().get("versions")
        return {name: str(version) for name, version in versions.items()} if isinstance(versions, dict) else {}

    def metrics(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.jsonl, without a last line that a crash cut short.

        Raises:
            RunError: if a line is not a row of metrics.
        """
        return read_rows(self.metrics_file)

    def diagnostics(self) -> list[dict[str, Any]]:
        """Return the rows of diagnostics.jsonl; none if diagnostics is off. See `metrics`."""
        return read_rows(self.diagnostics_file)

    def set_aside(self, step: int) -> Path:
        """Make a directory for the checkpoints after `step`, and copy the metrics into it.

        Raises:
            RunError: if it cannot be written.
        """
        with write_errors(self.path):
            place = unused_directory(self.path / "set-aside" / f"after-{step}")
            for file in (self.metrics_file, self.diagnostics_file):
                if file.exists():
                    shutil.copyfile(file, place / file.name)
        return place

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training in this directory.

        Raises:
            RunError: if another process trains in it, or it cannot be written.
        """
        with ExitStack() as stack:
            with write_errors(self.path):
                is_free = stack.enter_context(locked(self.path / ".lock"))
            if not is_free:
                raise RunError(f"{self.path} is in use: another process is training in it")
            remove_partial(self.path)
            yield

    @property
    def is_in_use(self) -> bool:
        """Whether another process trains in this directory."""
        lock = self.path / ".lock"
        if not lock.exists():
            return False
        with write_errors(self.path), locked(lock) as is_free:
            return not is_free


def read_config(path: Path) -> TrainConfig:
    """Read a config.json.

    Raises:
        RunError: if the file cannot be read, or was written in another format.
        ConfigurationError: if a setting in it is invalid.
    """
    found, settings = _read_settings(path)
    try:
        return TrainConfig.from_dict(settings if found == RUN_FORMAT else upgrade_settings(settings))
    except ConfigurationError as error:
        raise type(error)(f"{path}: {error}") from error


def _read_settings(path: Path) -> tuple[int, dict[str, Any]]:
    """Return the format of a config.json, and the settings in it."""
    try:
        settings = json.loads(path.read_text())
        found = settings.pop("format")
        if type(found) is not int:
            raise TypeError(f"format {found!r}")
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise RunError(f"{path} is not a configuration of kilolayer: {type(error).__name__}: {error}") from error
    if type(found) is not int or found < 1:
        raise RunError(f"{path} is not a configuration of kilolayer: format={found!r}")
    if found > RUN_FORMAT:
        raise RunError(
            f"{path} was written by a newer kilolayer (format {found}, this one reads up to {RUN_FORMAT}); update it"
        )
    return found, settings


def new_directory(config: TrainConfig, seeds: str | None = None) -> Path:
    """Make a new directory under `runs/` in the working directory, which no other process is given.

    Args:
        config: its environment, depth and seed are part of the name.
        seeds: replaces the seed in the name.

    Raises:
        RunError: if it cannot be made.
    """
    env = "maze" if "\n" in config.env else config.env
    name = f"{env}-d{config.depth}-{seeds or f's{config.seed}'}-{time.strftime('%Y%m%d-%H%M%S')}"
    with write_errors(Path("runs") / name):
        return unused_directory(Path("runs") / name)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Raise an OSError as a RunError of one line that names `path`."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
