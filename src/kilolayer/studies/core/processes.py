"""Train several cases of a study at once, each in a process of its own on this machine."""

import multiprocessing
import multiprocessing.connection
import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.context import SpawnProcess
from signal import Signals

from kilolayer.errors import KilolayerError
from kilolayer.runs.run_directory import write_errors
from kilolayer.studies.core.executor import Executor, Job
from kilolayer.studies.core.run import StudyStoppedError, Work, one_line
from kilolayer.studies.core.watch import POLL_SECONDS
from kilolayer.user_code import import_missing, imported

LOG_FILE = "log.txt"
"""Output of training a case, in the directory of its runs."""


def in_processes(jobs: int) -> Executor:
    """Return workers that train up to `jobs` cases at once, each in a process of its own.

    On a GPU that several processes share, each process allocates memory as it needs it.

    Raises:
        ConfigurationError: if `jobs` is below 1.
    """
    return _Processes(jobs)


class _Processes(Executor):
    def start(self, works: Sequence[Work], log: Callable[[str], object]) -> Sequence["_Process"]:
        context = multiprocessing.get_context("spawn")
        started = []
        for work in works:
            with write_errors(work.path):
                work.path.mkdir(parents=True, exist_ok=True)
            process = context.Process(target=_train_here, args=(work, imported()))
            process.start()
            started.append(_Process(work, process))
        return started

    def wait(self, running: Sequence[Job]) -> None:
        sentinels = [job.process.sentinel for job in running if isinstance(job, _Process)]
        multiprocessing.connection.wait(sentinels, timeout=POLL_SECONDS)


class _Process(Job):
    def __init__(self, work: Work, process: SpawnProcess):
        self.work, self.process = work, process

    def has_ended(self) -> bool:
        return self.process.exitcode is not None

    def failure(self) -> str | None:
        return None if self.process.exitcode == 0 else _why(self.work, self.process.exitcode)

    @property
    def was_interrupted(self) -> bool:
        code = self.process.exitcode or 0
        return code < 0 or code > 128

    def stop(self) -> None:
        self.process.terminate()  # SIGTERM makes it save its runs

    def join(self) -> None:
        self.process.join()


def _train_here(work: Work, imports: Sequence[str]) -> None:
    """Train a case in this process, which trains nothing else."""
    os.setpgrp()  # Ctrl-C in the terminal reaches the parent only, which terminates this process
    threading.Thread(target=_stop_without_parent, daemon=True).start()
    set_up_for(work)
    try:
        import_missing(imports)
        work.train()
    except StudyStoppedError as stopped:
        sys.exit(128 + stopped.signal)
    except Exception as error:
        if not isinstance(error, KilolayerError):
            traceback.print_exc()
        print(one_line(error), file=sys.stderr)
        sys.exit(2)


def set_up_for(work: Work) -> None:
    """Prepare this process to train a case: send what it prints to the log of the case, and share the device."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # before JAX opens the device
    log_to_file(work)
    work.set_up_process()


def log_to_file(work: Work) -> None:
    """Send what this process prints to the log of a case."""
    with write_errors(work.path):
        work.path.mkdir(parents=True, exist_ok=True)
        with (work.path / LOG_FILE).open("a") as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)


def _stop_without_parent() -> None:
    """Stop this process with SIGTERM as soon as its parent has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), Signals.SIGTERM)


def _why(work: Work, exit_code: int | None) -> str:
    """Return why a process failed."""
    if exit_code is not None and exit_code < 0:
        return f"its process was killed by {Signals(-exit_code).name}"
    if exit_code is not None and exit_code > 128:
        return f"it was stopped by {Signals(exit_code - 128).name} and saved"
    lines = (work.path / LOG_FILE).read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"its process ended with {exit_code}"
