"""Train several cases of a study at once as jobs of a cluster, with submitit."""

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
from kilolayer.studies.core.run import StudyStoppedError, Work, Workers, one_line
from kilolayer.studies.core.watch import POLL_SECONDS, Progress, check_jobs
from kilolayer.training.interrupts import StopRequest
from kilolayer.user_code import import_missing, imported

SUBMITIT_LOG_LEVEL = "SUBMITIT_LOG_LEVEL"
"""Environment variable that submitit reads when it is imported."""


def by_submitit(jobs: int, parameters: Mapping[str, Any]) -> Workers:
    """Return workers that submit the cases as an array of jobs to a cluster and wait for them.

    A job that is preempted or reaches its time limit is submitted again and resumes from its checkpoint. A signal
    cancels the jobs; the study resumes when it starts again.

    Args:
        jobs: the largest number of jobs at once.
        parameters: of `submitit.AutoExecutor`: `cluster` ("slurm", or "local" for processes of this machine), and the
            arguments of its `update_parameters`, such as `timeout_min` and `slurm_partition`.

    Raises:
        ConfigurationError: if submitit is not installed, or for an unknown cluster or parameter.
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
    """Import submitit without its logging set-up, which closes other loggers' handlers and writes to standard output.

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
    finally:  # jobs keep the level of the user
        del os.environ[SUBMITIT_LOG_LEVEL]
        if level is not None:
            os.environ[SUBMITIT_LOG_LEVEL] = level
    return submitit


class _Submitted:
    """The function of a job; submitit calls it again after the job was preempted."""

    def __init__(self, imports: Sequence[str]):
        """Take the user's files to import first."""
        self.imports = imports

    def __call__(self, work: Work) -> str | None:
        """Train a case and return the reason if it failed.

        A job that a signal stopped exits instead, so that the cluster may start it again and it resumes.
        """
        work.set_up_process()
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
        """Return the job to submit in place of a preempted one: the same, which resumes."""
        return _submitit().helpers.DelayedSubmission(self, work)


def _by_submitit(
    works: Sequence[Work], log: Callable[[str], object], *, executor: Callable[[Path], Any]
) -> Iterator[tuple[Work, str | None]]:
    try:
        submitted = executor(works[0].directory).map_array(_Submitted(imported()), works)
    except (OSError, RuntimeError) as refusal:  # submitit's own errors are RuntimeErrors
        raise RunError(f"submit: {' '.join(str(refusal).split())}") from None
    running = dict(zip(submitted, works, strict=True))
    log(f"{len(works)} jobs submitted, the first is {submitted[0].job_id}; logs are in {submitted[0].paths.folder}")
    progress = Progress(works, log)
    with StopRequest() as stop:
        try:
            while running:
                time.sleep(POLL_SECONDS)
                if stop.signal is not None:
                    raise StudyStoppedError(works[0].directory, stop.signal)
                for job in [one for one in running if one.done()]:
                    work = running.pop(job)
                    progress.end(work)
                    error = job.exception()
                    yield work, job.result() if error is None else _headline(error)
                progress.update(list(running.values()))
        finally:
            for job in running:
                job.cancel()


def _headline(error: BaseException) -> str:
    """Return the part of a submitit error before the quoted logs."""
    return " ".join(
        itertools.takewhile(lambda line: not line.startswith(("---", "Error", "No error")), str(error).splitlines())
    )
