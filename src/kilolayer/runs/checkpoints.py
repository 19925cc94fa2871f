"""Checkpoints by Orbax: whole or absent, written while training continues, and read without running code from them.

A checkpoint holds two sets of named arrays, `agent` and `rest`, so that a policy can be loaded without the replay
buffer; a checksum of every array; and both clocks.
"""

import dataclasses
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from kilolayer.checkpoint_files import POLICY_ITEM, best_in, find_step, score, set_damaged_files_aside, steps_in
from kilolayer.errors import RunError, TrainingError
from kilolayer.files import sync, without_patterns
from kilolayer.hosts import is_first_process, num_processes, wait_for_all
from kilolayer.named_arrays import fill, to_arrays
from kilolayer.runs.checksums import agrees, checksums_of
from kilolayer.runs.clock import Clocks
from kilolayer.runs.policy_item import PolicyWriter, SavePolicy

LOOP_IS_CLOSED = "Event loop is closed"
"""What a read says that ends when Orbax has given up."""


class Saved(Protocol):
    """A pytree of arrays whose field `agent` can be read without the rest."""

    @property
    def agent(self) -> Any:
        """The state of the agent."""
        ...

    @property
    def clocks(self) -> Clocks:
        """How far the run is; `clocks.step` names the checkpoint."""
        ...


Tree = TypeVar("Tree")
State = TypeVar("State", bound=Saved)

AGENT_PREFIX = "agent."

NEEDED_FILES = (
    *(Path(item, name) for item in ("agent", "rest") for name in ("manifest.ocdbt", "_METADATA")),
    *(Path(item, "metadata") for item in ("checksums", "clocks")),
)
"""Files without which a checkpoint cannot be read."""


class Checkpoints:
    """The checkpoints of one run.

    A checkpoint is named by its step: the env steps of the run, or the gradient steps if the run collects nothing.

    Args:
        directory: holds one directory for each checkpoint.
        keep: how many of the latest to keep when a new one is saved; None opens the directory only for reading.
    """

    def __init__(self, directory: Path, *, keep: int | None = None):
        """Open the directory; create it if checkpoints are to be saved.

        Raises:
            RunError: if it cannot be written.
        """
        self.directory = directory
        self._saving: int | None = None
        self._unconfirmed: int | None = None
        self._failed = False
        self._open = ExitStack()
        self._writer: ocp.CheckpointManager | None = None
        if keep is not None:
            try:
                path = self._open.enter_context(without_patterns(directory, create=True))
                self._writer = _writer(directory, path, keep)
            except OSError as error:
                raise RunError(f"{directory} cannot be written: {error.strerror or error}") from error

    @property
    def _manager(self) -> ocp.CheckpointManager:
        assert self._writer is not None, "the checkpoints were opened only for reading"
        return self._writer

    def steps(self) -> list[int]:
        """Return the steps of all whole checkpoints, oldest first."""
        return steps_in(self.directory)

    def best(self) -> int | None:
        """Return the step of the checkpoint with the best evaluation; None if none was evaluated."""
        return best_in(self.directory)

    def resolve(self, wanted: int | str | None) -> int:
        """Return the step of a checkpoint.

        Args:
            wanted: a step, `latest` (the same as None), or `best`.

        Raises:
            RunError: if there is no such checkpoint; the line lists all checkpoints.
        """
        return find_step(self.directory, wanted)

    def clocks(self, step: int) -> Clocks:
        """Return both clocks of a checkpoint.

        Raises:
            RunError: if the checkpoint is damaged.
        """
        try:
            with without_patterns(self.directory) as path:
                found = ocp.JsonCheckpointHandler().restore(path / str(step) / "clocks")
            return Clocks(int(found["env_steps"]), int(found["gradient_steps"]))
        except Exception as error:  # Orbax raises many types for damaged files
            raise self._damaged(step, _reason(error)) from error

    def has_clocks(self, step: int) -> bool:
        """Return whether a checkpoint holds its clocks; those of format 1 do not."""
        return (self.directory / str(step) / "clocks").is_dir()

    def drop_after(self, step: int, *, into: Path | None = None) -> None:
        """Remove the checkpoints after `step`, from which the run resumes.

        Args:
            step: of the last checkpoint that stays.
            into: a directory to move them to; None deletes them.

        Raises:
            TrainingError: if one cannot be moved.
        """
        later = [each for each in self.steps() if each > step]
        wait_for_all("later checkpoints are known")
        for each in later:
            if into is None:
                self._manager.delete(each)
                continue
            if not is_first_process():
                continue
            try:
                (self.directory / str(each)).rename(into / str(each))
            except OSError as error:
                raise TrainingError(
                    f"checkpoint {self.directory / str(each)} cannot be moved to {into}: {error.strerror}"
                ) from error
        wait_for_all("later checkpoints are dropped")
        self._manager.reload()

    def save(
        self, state: Saved, metrics: Mapping[str, float] | None = None, *, policy: PolicyWriter | None = None
    ) -> None:
        """Begin to save a state; return once its arrays are copied.

        Args:
            state: to save; nothing is done if its step is saved already.
            metrics: the evaluation of the state, if there is one.
            policy: writes the policy of the state into a directory, which is whole or absent with the checkpoint.

        Raises:
            TrainingError: if this or the previous save failed. The checkpoints before are whole.
        """
        clocks = state.clocks
        step = clocks.step
        self.wait()
        if step in self.steps():
            return
        self._saving = self._unconfirmed = step
        arrays = to_arrays(state)
        items = {
            "agent": {name: value for name, value in arrays.items() if name.startswith(AGENT_PREFIX)},
            "rest": {name: value for name, value in arrays.items() if not name.startswith(AGENT_PREFIX)},
        }
        checksums = checksums_of(arrays)
        with self._save_errors():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    **{name: ocp.args.PyTreeSave(item) for name, item in items.items()},
                    checksums=ocp.args.JsonSave(checksums),
                    clocks=ocp.args.JsonSave(dataclasses.asdict(clocks)),
                    **({POLICY_ITEM: SavePolicy(policy)} if policy is not None else {}),
                ),
                metrics=dict(metrics) if metrics is not None else None,
            )

    def wait(self) -> None:
        """Wait until the last save is complete and on the disk.

        Raises:
            TrainingError: if the save failed, or what it left cannot be read.
        """
        with self._save_errors():
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
            if self._unconfirmed is not None and is_first_process():
                _confirm(self.directory / str(self._unconfirmed))
            self._unconfirmed = None

    def close(self) -> None:
        """Close the directory. After a save that failed, closing fails for the same reason, and raises nothing.

        Raises:
            TrainingError: if a save fails now.
        """
        with self._open:
            if self._writer is not None:
                with suppress(Exception) if self._failed else self._save_errors():
                    self._writer.close()

    def restore(self, template: State, step: int) -> State:
        """Read a whole state.

        Args:
            template: a state of the same structure, of arrays or `jax.ShapeDtypeStruct`.
            step: of the checkpoint.

        Raises:
            RunError: if the checkpoint is damaged or has another structure.
        """
        arrays = self._read(step, "agent") | self._read(step, "rest")
        return self._fill(template, arrays, step, "")

    def restore_agent(self, template: Any, step: int) -> Any:
        """Read only the state of the agent; see `restore`."""
        return self._fill(template, self._read(step, "agent"), step, AGENT_PREFIX)

    def agent_arrays(self, step: int) -> dict[str, np.ndarray]:
        """Return the arrays of the agent's state by name; see `restore`."""
        return {name.removeprefix(AGENT_PREFIX): value for name, value in self._read(step, "agent").items()}

    def _read(self, step: int, item: str) -> dict[str, np.ndarray]:
        with without_patterns(self.directory) as path:
            return self._read_in(path / str(step) / item, step)

    def _read_in(self, path: Path, step: int) -> dict[str, np.ndarray]:
        handler = ocp.PyTreeCheckpointHandler()
        try:
            with _late_reads_silenced():
                names = handler.metadata(path).tree
                arguments = ocp.args.PyTreeRestore(
                    item=names, restore_args={name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
                )
                arrays = dict(handler.restore(path, args=arguments))
                checksums = ocp.JsonCheckpointHandler().restore(path.parent / "checksums")
            for name, value in arrays.items():
                if not agrees(value, checksums[name]):
                    raise ValueError(f"{name} does not match its checksum")
            return arrays
        except Exception as error:  # Orbax and TensorStore raise many types for damaged files
            raise self._damaged(step, _reason(error)) from error
        finally:
            handler.close()

    def _fill(self, template: Tree, arrays: dict[str, np.ndarray], step: int, prefix: str) -> Tree:
        """Return `template` with the named arrays in its places."""
        own = {name.removeprefix(prefix): value for name, value in arrays.items()}
        try:
            return fill(template, own, others=True)
        except ValueError as error:
            raise self._damaged(step, f"{prefix}{error}") from error

    def _damaged(self, step: int, why: str) -> RunError:
        others = [other for other in self.steps() if other != step]
        advice = f"use checkpoint {others[-1]}" if others else "there is no other"
        return RunError(f"checkpoint {self.directory / str(step)} is damaged ({why}); {advice}")

    @contextmanager
    def _save_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # disk full, directory gone, and whatever else the writers meet
            self._failed = True
            steps = [step for step in self.steps() if step != self._saving]
            last = f"the last good one is {self.directory / str(steps[-1])}" if steps else "there is no earlier one"
            raise TrainingError(
                f"checkpoint {self.directory / str(self._saving)} could not be saved ({_reason(error)}); {last}"
            ) from error


@contextmanager
def _late_reads_silenced() -> Iterator[None]:
    """Read a checkpoint; if that fails, let no traceback of an abandoned read appear, now or later.

    When one array cannot be read, Orbax gives up and closes its event loop. The reads of other arrays end later, in
    threads of TensorStore, find the loop closed, and Python prints a traceback for each.
    """
    others = sys.unraisablehook
    if getattr(others, "silences", None) == LOOP_IS_CLOSED:  # after a failure before
        yield
        return

    def hook(found: Any) -> None:
        if not (found.exc_type is RuntimeError and str(found.exc_value) == LOOP_IS_CLOSED):
            others(found)

    hook.silences = LOOP_IS_CLOSED  # type: ignore[attr-defined]
    sys.unraisablehook = hook
    yield
    sys.unraisablehook = others


def _writer(directory: Path, path: Path, keep: int) -> ocp.CheckpointManager:
    """Return what saves checkpoints, and keeps the best and the latest of them; `path` leads to the directory."""
    for step in steps_in(directory) if is_first_process() else ():
        set_damaged_files_aside(directory / str(step))
    policies = [LatestN(keep), BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False)]
    # Named processes wait for each other without a program of JAX, which would meet those of training.
    together = ocp.options.MultiprocessingOptions(active_processes=set(range(num_processes())))
    options = ocp.CheckpointManagerOptions(
        **({"multiprocessing_options": together} if num_processes() > 1 else {}),
        best_fn=score,
        preservation_policy=AnyPreservationPolicy(policies),
        create=num_processes() == 1,  # `without_patterns` made it
        cleanup_tmp_directories=True,
    )
    return ocp.CheckpointManager(path, options=options)


def _confirm(checkpoint: Path) -> None:
    """Check that a checkpoint holds every file that reading needs, and put all of it on the disk.

    Raises:
        OSError: if it does not.
    """
    for needed in NEEDED_FILES:
        if not (checkpoint / needed).stat().st_size:
            raise OSError(f"{needed} is empty")
    for parent, folders, files in os.walk(checkpoint):
        for name in files:
            sync(Path(parent, name))
        for name in folders:
            sync(Path(parent, name))
    sync(checkpoint)
    sync(checkpoint.parent)


def _reason(error: Exception) -> str:
    """Return the message of the operating system, if there is one, or the beginning of the error."""
    text = " ".join(str(error).split())
    said = re.search(r"([^:\[\]]+) \[os_error_code", text)
    return said.group(1).strip() if said else f"{type(error).__name__}: {text[:160]}"
