"""Checkpoints by Orbax: whole or absent, written while training goes on, readable without running anything in them.

A checkpoint is two sets of named arrays, `agent` and `rest`, so that a policy can be loaded without the replay buffer,
and a checksum of every array.
"""

import logging
import re
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from kilolayer.checkpoint_files import POLICY_ITEM, best_of, choose_step, score
from kilolayer.errors import RunError, TrainingError
from kilolayer.runs.policy_item import PolicyWriter, SavePolicy


class Saved(Protocol):
    """A pytree of arrays whose field `agent` can be read without the rest."""

    @property
    def agent(self) -> Any:
        """What the agent has learnt."""
        ...

    @property
    def env_steps(self) -> int:
        """Env steps at which the state was taken: its name."""
        ...


Tree = TypeVar("Tree")
State = TypeVar("State", bound=Saved)

AGENT_PREFIX = "agent."


class Checkpoints:
    """The checkpoints of one run, each known by the env steps at which it was taken.

    Args:
        directory: holds one directory for each checkpoint.
        keep: how many of the latest to keep when a new one is saved; None opens the directory for reading only.
    """

    def __init__(self, directory: Path, *, keep: int | None = None):
        """Open, and for writing create, the directory."""
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # what Orbax logs is raised here, in a line of our own
        _hush_abandoned_io()
        self.directory = directory
        self._saving: int | None = None
        self._failed = False
        policies = [LatestN(keep or 1), BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False)]
        options = ocp.CheckpointManagerOptions(
            best_fn=score,
            preservation_policy=AnyPreservationPolicy(policies),
            create=keep is not None,
            cleanup_tmp_directories=keep is not None,
            read_only=keep is None,
        )
        self._manager = ocp.CheckpointManager(directory.resolve(), options=options)

    def steps(self) -> list[int]:
        """Return the env steps of all whole checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """Return the env steps of the checkpoint with the best evaluation; None if none was evaluated."""
        return best_of({step: score(self._manager.metrics(step)) for step in self.steps()})

    def resolve(self, wanted: int | str | None) -> int:
        """Return the env steps of a checkpoint.

        Args:
            wanted: env steps, `latest` (as None), or `best`.

        Raises:
            RunError: if there is no such checkpoint; the line names those there are.
        """
        return choose_step(self.directory, self.steps(), wanted, self.best)

    def drop_after(self, step: int) -> None:
        """Delete the checkpoints later than `step`: the run goes on from there."""
        for later in self.steps():
            if later > step:
                self._manager.delete(later)

    def save(
        self, state: Saved, metrics: Mapping[str, float] | None = None, *, policy: PolicyWriter | None = None
    ) -> None:
        """Begin to save `state`, with the evaluation that it reached; returns once the arrays are copied.

        Args:
            state: to save; nothing is done if its step is saved already.
            metrics: the evaluation of the state, if there is one.
            policy: writes the policy of the state into a directory, which is whole or absent with the checkpoint.

        Raises:
            TrainingError: if this or the save before it failed. The checkpoints before are whole.
        """
        step = state.env_steps
        self.wait()
        if step in self.steps():
            return
        self._saving = step
        arrays = _to_arrays(state)
        items = {
            "agent": {name: value for name, value in arrays.items() if name.startswith(AGENT_PREFIX)},
            "rest": {name: value for name, value in arrays.items() if not name.startswith(AGENT_PREFIX)},
        }
        checksums = {name: zlib.crc32(value.data) for name, value in arrays.items()}
        with self._save_errors():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    **{name: ocp.args.PyTreeSave(item) for name, item in items.items()},
                    checksums=ocp.args.JsonSave(checksums),
                    **({POLICY_ITEM: SavePolicy(policy)} if policy is not None else {}),
                ),
                metrics=dict(metrics) if metrics is not None else None,
            )

    def wait(self) -> None:
        """Wait until what was begun is saved.

        Raises:
            TrainingError: if the save failed.
        """
        with self._save_errors():
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def close(self) -> None:
        """Let go of the directory. After a save that failed, what fails on the way out is the same failure."""
        with suppress(Exception) if self._failed else nullcontext():
            self._manager.close()

    def restore(self, template: State, step: int) -> State:
        """Read a whole state.

        Args:
            template: a state of the same structure, of arrays or `jax.ShapeDtypeStruct`.
            step: env steps of the checkpoint.

        Raises:
            RunError: if the checkpoint is damaged or of another structure.
        """
        arrays = self._read(step, "agent") | self._read(step, "rest")
        return self._fill(template, arrays, step, "")

    def restore_agent(self, template: Any, step: int) -> Any:
        """Read only the agent's state; see `restore`."""
        return self._fill(template, self._read(step, "agent"), step, AGENT_PREFIX)

    def agent_arrays(self, step: int) -> dict[str, np.ndarray]:
        """Return the arrays of the agent's state by name; see `restore`."""
        return {name.removeprefix(AGENT_PREFIX): value for name, value in self._read(step, "agent").items()}

    def _read(self, step: int, item: str) -> dict[str, np.ndarray]:
        handler = ocp.PyTreeCheckpointHandler()
        path = self.directory.resolve() / str(step) / item
        try:
            names = handler.metadata(path).tree
            arguments = ocp.args.PyTreeRestore(
                item=names, restore_args={name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
            )
            arrays = dict(handler.restore(path, args=arguments))
            checksums = ocp.JsonCheckpointHandler().restore(path.parent / "checksums")
            for name, value in arrays.items():
                if zlib.crc32(np.ascontiguousarray(value).data) != checksums[name]:
                    raise ValueError(f"{name} does not match its checksum")
            return arrays
        except Exception as error:  # Orbax and TensorStore raise many types for damaged files
            raise self._damaged(step, _reason(error)) from error
        finally:
            handler.close()

    def _fill(self, template: Tree, arrays: dict[str, np.ndarray], step: int, prefix: str) -> Tree:
        """Put named arrays in the places of `template`."""

        def take(path: tuple, leaf: Any) -> jax.Array:
            name = prefix + _name(path)
            is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            expected = jax.eval_shape(jax.random.key_data, leaf) if is_key else leaf
            # What has no numbers is not saved: Orbax refuses it.
            value = arrays.get(name) if expected.size else np.zeros(expected.shape, expected.dtype)
            if value is None or value.shape != expected.shape or value.dtype != expected.dtype:
                found = "nothing" if value is None else f"{value.dtype}{list(value.shape)}"
                raise self._damaged(step, f"{name} should be {expected.dtype}{list(expected.shape)}, found {found}")
            return jax.random.wrap_key_data(jnp.asarray(value)) if is_key else jnp.asarray(value)

        return jax.tree_util.tree_map_with_path(take, template)

    def _damaged(self, step: int, why: str) -> RunError:
        others = [other for other in self.steps() if other != step]
        advice = f"use another: --checkpoint {others[-1]}" if others else "there is no other"
        return RunError(f"checkpoint {self.directory / str(step)} is damaged ({why}); {advice}")

    @contextmanager
    def _save_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # disk full, directory gone, and whatever else the writers meet
            self._failed = True
            steps = [step for step in self.steps() if step != self._saving]
            last = f"the last good one is {self.directory / str(steps[-1])}" if steps else "there is none before it"
            raise TrainingError(
                f"checkpoint {self.directory / str(self._saving)} could not be saved ({_reason(error)}); {last}"
            ) from error


def _reason(error: Exception) -> str:
    """Return what the operating system said, if it said anything, and the first words of the error otherwise."""
    text = " ".join(str(error).split())
    said = re.search(r"([^:\[\]]+) \[os_error_code", text)
    return said.group(1).strip() if said else f"{type(error).__name__}: {text[:160]}"


def _hush_abandoned_io() -> None:
    """Keep reads and writes that TensorStore finishes after Orbax gave up from printing a traceback each."""
    logging.getLogger("asyncio").addFilter(_is_no_abandoned_write)
    previous = sys.unraisablehook
    if previous.__module__ == __name__:
        return

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            previous(unraisable)

    sys.unraisablehook = hook


def _is_no_abandoned_write(record: logging.LogRecord) -> bool:
    """Say whether a line of asyncio's log is about something else: of several failed writes Orbax raises the first."""
    message = record.getMessage()
    return not (message.startswith("Task exception was never retrieved") and "orbax" in message)


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _to_arrays(state: Saved) -> dict[str, np.ndarray]:
    """Return all leaves that hold numbers by name, copied to the host: training goes on in the memory they leave."""

    def copy(leaf: jax.Array) -> np.ndarray:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.array(jax.random.key_data(leaf) if is_key else leaf, copy=True)

    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {_name(path): copy(leaf) for path, leaf in leaves if leaf.size}
