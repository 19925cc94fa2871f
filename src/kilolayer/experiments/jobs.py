"""Training several cases of a study at once: in processes of this machine, or as jobs of a cluster by submitit."""

import functools
import itertools
import multiprocessing
import multiprocessing.connection
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from signal import Signals
from typing import Any

from kilolayer.errors import ConfigurationError, KilolayerError, RunError
from kilolayer.experiments.run import StudyStoppedError, Work, Workers, one_line
from kilolayer.training.interrupts import StopRequest
from kilolayer.training.run_directory import write_errors
from kilolayer.user_code import import_missing, imported

POLL_SECONDS = 0.5
TELL_SECONDS = 10.0

SUBMITIT_LOG_LEVEL = "SUBMITIT_LOG_LEVEL"
"""The environment variable that submitit looks at when it is imported."""

LOG_FILE = "log.txt"
"""What training a case printed, in the directory of its runs."""


def in_processes(jobs: int) -> Workers:
    """Return workers that train up to `jobs` cases at once, each in a process of its own.

    On a GPU that several processes share, each takes memory as it needs it, in place of most of it at once.

    Raises:
        ConfigurationError: if there is to be none.
    """
    _check(jobs)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    return functools.partial(_in_processes, jobs=jobs)


def by_submitit(jobs: int, parameters: Mapping[str, Any]) -> Workers:
    """Return workers that submit cases as an array of jobs to a cluster, and wait for them.

    A job that is preempted, or meets its time limit, is submitted again and goes on from its checkpoint. When waiting
    is interrupted the jobs are cancelled; started again, the study goes on.

    Args:
        jobs: how many may run at once.
        parameters: of `submitit.AutoExecutor`: `cluster` ("slurm", or "local" to try it), and what its
            `update_parameters` takes, such as `timeout_min` and `slurm_partition`.

    Raises:
        ConfigurationError: if submitit is not installed, finds no such cluster or does not know a parameter.
    """
    _check(jobs)
    submitit = _submitit()
    others = dict(parameters)
    cluster = others.pop("cluster", None)

    def executor(directory: Path) -> Any:
        try:
            found = submitit.AutoExecutor(folder=directory / "jobs", cluster=cluster)
            array = {"slurm_array_parallelism": jobs} if found.cluster == "slurm" else {}
            found.update_parameters(**{"name": "kilolayer", "timeout_min": 24 * 60, **array, **others})
        except (RuntimeError, ValueError, TypeError, NameError, AssertionError) as error:
            raise ConfigurationError(f"submit: {' '.join(str(error).split())}") from None
        except OSError as error:
            raise RunError(f"{directory} cannot be written: {error.strerror}") from error
        return found

    return functools.partial(_by_submitit, executor=executor)


def _submitit() -> Any:
    """Import submitit, which would else close other loggers' handlers, and log to standard output, where tables go.

    Raises:
        ConfigurationError: if it is not installed.
    """
    level = os.environ.get(SUBMITIT_LOG_LEVEL)
    os.environ[SUBMITIT_LOG_LEVEL] = "NOCONFIG"
    try:
        import submitit
    except ModuleNotFoundError:
        raise ConfigurationError(
            "submitting jobs needs submitit; install it with `pip install 'kilolayer[cluster]'`"
        ) from None
    finally:  # jobs log as ever
        del os.environ[SUBMITIT_LOG_LEVEL]
        if level is not None:
            os.environ[SUBMITIT_LOG_LEVEL] = level
    return submitit


def _check(jobs: int) -> None:
    if jobs < 1:
        raise ConfigurationError(f"jobs={jobs} must be at least 1")


def _in_processes(
    works: Sequence[Work], tell: Callable[[str], object], *, jobs: int
) -> Iterator[tuple[Work, str | None]]:
    context = multiprocessing.get_context("spawn")
    waiting = deque(works)
    running: dict[Any, Work] = {}
    progress = _Progress(works, tell)
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
                    progress.ended(work)
                    yield work, None if process.exitcode == 0 else _why(work, process.exitcode)
                progress.tell(list(running.values()))
        finally:  # they save what they have
            for process in running:
                process.terminate()
            for process in running:
                process.join()


def _train_here(work: Work, imports: Sequence[str]) -> None:
    """Train a case in this process, which was made for it alone."""
    os.setpgrp()  # Ctrl-C in the terminal is for the parent, which asks this process to stop
    threading.Thread(target=_stop_without_parent, daemon=True).start()
    with (work.path / LOG_FILE).open("a") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
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
    """Ask this process to stop, as soon as its parent was killed: nobody would wait for it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), Signals.SIGTERM)


def _why(work: Work, exit_code: int | None) -> str:
    """Return why a process ended that should not have."""
    if exit_code is not None and exit_code < 0:
        return f"its process was ended by {Signals(-exit_code).name}"
    if exit_code is not None and exit_code > 128:
        return f"it was stopped by {Signals(exit_code - 128).name}, and saved"
    lines = (work.path / LOG_FILE).read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"its process ended with {exit_code}"


class _Submitted:
    """What a job of a cluster does; submitit calls it again where a job was preempted."""

    def __init__(self, imports: Sequence[str]):
        """Say what of the user's own to import before."""
        self.imports = imports

    def __call__(self, work: Work) -> str | None:
        """Train a case; returns why that failed, if it did.

        Where a signal stopped it there is no answer: if the cluster starts the job again, it goes on.
        """
        try:
            import_missing(self.imports)
            work.train()
        except StudyStoppedError as stopped:
            sys.exit(128 + stopped.signal)
        except Exception as error:
            traceback.print_exc()
            return one_line(error)
        return None

    def checkpoint(self, work: Work) -> Any:
        """Return what is to be submitted in place of a job that was preempted: the same, which goes on."""
        return _submitit().helpers.DelayedSubmission(self, work)


def _by_submitit(
    works: Sequence[Work], tell: Callable[[str], object], *, executor: Callable[[Path], Any]
) -> Iterator[tuple[Work, str | None]]:
    try:
        submitted = executor(works[0].directory).map_array(_Submitted(imported()), works)
    except (OSError, RuntimeError) as refusal:  # submitit's own errors are of the second kind
        raise RunError(f"submit: {' '.join(str(refusal).split())}") from None
    running = dict(zip(submitted, works, strict=True))
    tell(f"{len(works)} jobs submitted, {submitted[0].job_id} the first; their logs are in {submitted[0].paths.folder}")
    progress = _Progress(works, tell)
    with StopRequest() as stop:
        try:
            while running:
                time.sleep(POLL_SECONDS)
                if stop.signal is not None:
                    raise StudyStoppedError(works[0].directory, stop.signal)
                for job in [one for one in running if one.done()]:
                    work = running.pop(job)
                    progress.ended(work)
                    error = job.exception()
                    yield work, job.result() if error is None else _headline(error)
                progress.tell(list(running.values()))
        finally:
            for job in running:
                job.cancel()


def _headline(error: BaseException) -> str:
    """Return what submitit says before it quotes logs."""
    return " ".join(
        itertools.takewhile(lambda line: not line.startswith(("---", "Error", "No error")), str(error).splitlines())
    )


class _Progress:
    """Says now and then how far cases are that are trained elsewhere, and what remains."""

    def __init__(self, works: Sequence[Work], tell: Callable[[str], object]):
        """Begin to watch."""
        self._total, self._tell = len(works), tell
        self._began = self._last = time.monotonic()
        self._ended = 0
        self._share_before = sum(work.share for work in works)

    def ended(self, work: Work) -> None:
        """Note that a case ended."""
        self._ended += 1
        self._tell(f"{self._ended} of {self._total} cases ended, {work.case.name}")

    def tell(self, running: Sequence[Work]) -> None:
        """Say how far the running cases are, if it was long ago."""
        now = time.monotonic()
        if not running or now - self._last < TELL_SECONDS:
            return
        self._last = now
        shares = {work.case.name: work.share for work in running}
        begun = [f"{name} {share:.0%}" for name, share in shares.items() if share > 0.0]
        done = self._ended + sum(shares.values())
        speed = (done - self._share_before) / (now - self._began)
        eta = f"; ETA {(self._total - done) / speed / 60.0:.0f} min" if speed > 0.0 else ""
        self._tell(f"{self._ended} of {self._total} cases ended; {', '.join(begun) or 'compiling'}{eta}")
