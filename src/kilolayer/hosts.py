"""Several processes that train one run together, each with devices of its own: on one machine, or on several.

JAX joins them: every process runs the same programs, and an array may be spread over the devices of all. The first
process alone prints and writes small files; checkpoints are written by all. All must see the same directory of the run.

A process that is alone finds nothing changed by this module.
"""

import dataclasses
import functools
import itertools
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from kilolayer.errors import ConfigurationError, short_line

Result = TypeVar("Result")

START_SECONDS = 120
"""For which a process waits for the others to begin."""

BEAT_SECONDS = 2.0
"""Between two signs of life."""

SILENCE_SECONDS = 30.0
"""Without a sign of life after which a process counts as gone."""

LOST = ("Gloo", "NCCL", "nccl", "oordination service", "Connection reset", "Connection closed", "Barrier", "barrier")
"""What errors speak of that come because another process is gone."""

STEP_TASKS, STEP_TASK = "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"
MPI_TASKS, MPI_TASK, MPI_ADDRESS = "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_MCA_orte_hnp_uri"

_told = itertools.count()


def num_processes() -> int:
    """Return how many processes train together."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def is_first_process() -> bool:
    """Return whether this process prints and writes for all."""
    return num_processes() == 1 or jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Wait until all processes are here."""
    if num_processes() > 1:
        multihost_utils.sync_global_devices(name)


def largest_of_all(*values: int) -> tuple[int, ...]:
    """Return for each value the largest that a process has, the same in all: a wish of one becomes that of all."""
    if num_processes() == 1:
        return values
    return tuple(int(value) for value in multihost_utils.process_allgather(np.array(values)).max(axis=0))


def from_first_process(make: Callable[[], Result]) -> Result:
    """Return what a function returns in the first process, which alone calls it.

    Args:
        make: returns what JSON can hold.
    """
    if num_processes() == 1:
        return make()
    client, name = _client(), f"kilolayer/told/{next(_told)}"
    if is_first_process():
        made = make()
        client.key_value_set(name, json.dumps(made))
        return made
    return json.loads(client.blocking_key_value_get(name, 1000 * 24 * 3600))


def from_each_process(values: np.ndarray) -> np.ndarray:
    """Return the values of all processes, each a row."""
    return np.asarray(multihost_utils.process_allgather(values)) if num_processes() > 1 else values[None]


def readable(tree: Any) -> Any:
    """Return arrays that this process can read: those that are spread over several are gathered."""
    spread = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array) and not _is_here(leaf)]
    sharding: Any = spread[0].sharding if spread else None
    return _gather(sharding.mesh)(tree) if spread else tree


def _is_here(array: jax.Array) -> bool:
    return array.is_fully_addressable or array.is_fully_replicated


@functools.cache
def _gather(mesh: jax.sharding.Mesh) -> Callable[[Result], Result]:
    """Return what gathers arrays on all devices; it is one function, so that it is compiled once for all of a kind."""
    return jax.jit(lambda tree: tree, out_shardings=jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


# Joining, and seeing that none outlives another


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a process finds the others, and which one it is. None is found by JAX."""

    coordinator: str | None = None
    """HOST:PORT of the first process."""
    num_processes: int | None = None
    process_id: int | None = None


def place_in(environment: Mapping[str, str]) -> Place | None:
    """Return the place of this process among those that SLURM's srun or Open MPI's mpirun started; None if it is alone.

    Args:
        environment: variables of the process.

    Raises:
        ConfigurationError: if they do not say where the first process is.
    """
    if int(environment.get(STEP_TASKS, "1")) > 1:
        return Place(None, int(environment[STEP_TASKS]), int(environment[STEP_TASK]))
    if int(environment.get(MPI_TASKS, "1")) > 1:
        if MPI_ADDRESS not in environment and "JAX_COORDINATOR_ADDRESS" not in environment:
            raise ConfigurationError(
                "this Open MPI does not say where the first process is; set JAX_COORDINATOR_ADDRESS=HOST:PORT for all"
            )
        return Place(None, int(environment[MPI_TASKS]), int(environment[MPI_TASK]))
    return None


class Watch:
    """Gives signs of life, and looks for those of the others."""

    def __init__(self, end: Callable[[str], None]):
        """Begin to watch.

        Args:
            end: is called once, from another thread, with a line about the process that is gone; it ends this one.
        """
        self._end, self._own, self._others = (
            end,
            jax.process_index(),
            set(range(num_processes())) - {jax.process_index()},
        )
        self._client, self._stop = _client(), threading.Event()
        now = time.monotonic()
        self._heard = dict.fromkeys(self._others, now)
        self._answered, self._failed = now, False
        self._patience = SILENCE_SECONDS
        self._last_words: dict[int, str] = {}
        for loop in (self._beat, self._look):
            threading.Thread(target=loop, daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()

    def say(self, last_words: str) -> None:
        """Tell the others why this process ends."""
        self._client.key_value_set(_words(self._own), short_line(last_words), allow_overwrite=True)
        if self._own == 0:  # with the first process ends what carries it
            time.sleep(2 * BEAT_SECONDS)

    def suspect(self) -> None:
        """Wait less for signs of life from now on: a program failed as it does when another process is gone."""
        self._patience = 4 * BEAT_SECONDS

    def gone(self) -> str | None:
        """Return a line about a process that is gone; None if all are there."""
        of = num_processes()
        for process, words in self._last_words.items():
            return f"process {process} of {of} has ended: {words}"
        if self._failed:
            return f"process 0 of {of} has ended"
        now = time.monotonic()
        if now - self._answered > self._patience:
            return f"process 0 of {of} cannot be reached"
        for process, heard in self._heard.items():
            if now - heard > self._patience:
                return f"process {process} of {of} has ended or cannot be reached"
        return None

    def _beat(self) -> None:
        seen: dict[int, str] = {}
        for beat in itertools.count():
            try:
                self._client.key_value_set(_alive(self._own), str(beat), allow_overwrite=True)
                for process in self._others:
                    found = _get(self._client, _alive(process))
                    if found is not None and found != seen.get(process):
                        seen[process], self._heard[process] = found, time.monotonic()
                    if (words := _get(self._client, _words(process))) is not None:
                        self._last_words[process] = words
                self._answered = time.monotonic()
            except Exception:  # the client raises several types when the first process is gone
                self._failed = self._own != 0
                return
            if self._stop.wait(BEAT_SECONDS):
                return

    def _look(self) -> None:
        while not self._stop.wait(0.5):
            if (line := self.gone()) is not None:
                if not self._stop.is_set():
                    self._end(line)
                return


def join(place: Place, end: Callable[[str], None]) -> Watch:
    """Join the other processes; JAX must not have been used yet.

    Args:
        place: of this process.
        end: as for `Watch`.

    Raises:
        ConfigurationError: in one line, if they do not find each other.
    """
    # JAX would abort this process with a trace of the stack when another one ends; the watch ends it in one line.
    jax.config.update("jax_enable_recoverability", True)
    # On a CPU, JAX would run programs side by side, and two processes could begin them in another order.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        jax.distributed.initialize(
            place.coordinator,
            place.num_processes,
            place.process_id,
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=int(SILENCE_SECONDS),
            shutdown_timeout_seconds=int(SILENCE_SECONDS),
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigurationError(f"the processes do not find each other: {' '.join(str(error).split())}") from error
    if jax.default_backend() == "cpu":
        # Programs of a CPU that come from the cache begin their collectives in an order of their own, up to JAX 0.10.
        jax.config.update("jax_enable_compilation_cache", False)
    return Watch(end)


def leave(watch: Watch) -> None:
    """Part from the other processes once all have come to the end."""
    wait_for_all("kilolayer ends")
    watch.stop()
    if is_first_process():  # the others part first: JAX aborts a process whose first one is gone
        time.sleep(2 * BEAT_SECONDS)
    jax.distributed.shutdown()


def is_of_others(error: BaseException) -> bool:
    """Return whether an error may have come because another process is gone."""
    chain: BaseException | None = error
    while chain is not None:
        if any(word in str(chain) for word in LOST):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


def _client() -> Any:
    from jax._src import distributed  # JAX has no other door to what its processes tell each other

    return distributed.global_state.client


def _get(client: Any, name: str) -> str | None:
    try:
        return client.key_value_try_get(name)
    except Exception as error:
        if "NOT_FOUND" in str(error):
            return None
        raise


def _alive(process: int) -> str:
    return f"kilolayer/alive/{process}"


def _words(process: int) -> str:
    return f"kilolayer/words/{process}"
