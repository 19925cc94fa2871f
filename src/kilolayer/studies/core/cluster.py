"""Training several cases of a study at once, as jobs of a cluster, by submitit."""

import functools
import itertools
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kilolayer.errors import ConfigurationError, RunError
from kilolayer.process_setup import set_up_process
from kilolayer.studies.core.run import StudyStoppedError, Work, Workers, one_line
from kilolayer.studies.core.watch import POLL_SECONDS, Progress, check_jobs
from kilolayer.training.interrupts import StopRequest
from kilolayer.user_code import import_missing, imported

SUBMITIT_LOG_LEVEL = "SUBMITIT_LOG_LEVEL"
"""The environment variable that submitit looks at when it is imported."""


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
    check_jobs(jobs)
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


class _Submitted:
    """What a job of a cluster does; submitit calls it again where a job was preempted."""

    def __init__(self, imports: Sequence[str]):
        """Say what of the user's own to import before."""
        self.imports = imports

    def __call__(self, work: Work) -> str | None:
        """Train a case; returns why that failed, if it did.

        Where a signal stopped it there is no answer: if the cluster starts the job again, it goes on.
        """
        set_up_process()
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
    progress = Progress(works, tell)
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
