"""Train several cases of a study at once, each in a process of its own on this machine."""

import functools
import multiprocessing
import multiprocessing.connection
import os
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from signal import Signals
from typing import Any

from kilolayer.errors import KilolayerError
from kilolayer.runs.run_directory import write_errors
from kilolayer.studies.core.run import StudyStoppedError, Work, Workers, one_line
from kilolayer.studies.core.watch import POLL_SECONDS, Progress, check_jobs
from kilolayer.training.interrupts import StopRequest
from kilolayer.user_code import import_missing, imported

LOG_FILE = "log.txt"
"""Output of training a case, in the directory of its runs."""


def in_processes(jobs: int) -> Workers:
    """Return workers that train up to `jobs` cases at once, each in a process of its own.

    On a GPU that several processes share, each process allocates memory as it needs it.

    Raises:
        ConfigurationError: if `jobs` is below 1.
    """
    check_jobs(jobs)
    return functools.partial(_in_processes, jobs=jobs)


def _in_processes(
    works: Sequence[Work], log: Callable[[str], object], *, jobs: int
) -> Iterator[tuple[Work, str | None]]:
    context = multiprocessing.get_context("spawn")
    waiting = deque(works)
    running: dict[Any, Work] = {}
    progress = Progress(works, log)
    with StopRequest() as stop:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    work = waiting.popleft()
                    with write_errors(work.path):
                        work.path.mkdir(parents=True, exist_ok=True)
                    process = context.Process(target=_train_here, args=(work, imported()))
                    process.start()
                    running[process] = work
                multiprocessing.connection.wait([process.sentinel for process in running], timeout=POLL_SECONDS)
                if stop.signal is not None:
                    raise StudyStoppedError(works[0].directory, stop.signal)
                for process in [one for one in running if one.exitcode is not None]:
                    work = running.pop(process)
                    progress.end(work)
                    yield work, None if process.exitcode == 0 else _why(work, process.exitcode)
                progress.update(list(running.values()))
        finally:  # SIGTERM makes each process save its runs
            for process in running:
                process.terminate()
            for process in running:
                process.join()


def _train_here(work: Work, imports: Sequence[str]) -> None:
    """Train a case in this process, which trains nothing else."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # before JAX opens the device
    os.setpgrp()  # Ctrl-C in the terminal reaches the parent only, which terminates this process
    threading.Thread(target=_stop_without_parent, daemon=True).start()
    with (work.path / LOG_FILE).open("a") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    work.set_up_process()
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
