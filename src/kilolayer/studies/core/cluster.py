"""Train several cases of a study at once as jobs of a cluster, with submitit."""

import itertools
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kilolayer.errors import ConfigurationError, RunError
from kilolayer.studies.core.executor import Executor, Job
from kilolayer.studies.core.run import StudyStoppedError, Work, one_line
from kilolayer.user_code import import_missing, imported

SUBMITIT_LOG_LEVEL = "SUBMITIT_LOG_LEVEL"
"""Environment variable that submitit reads when it is imported."""


def by_submitit(jobs: int, parameters: Mapping[str, Any]) -> Executor:
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
    return _Submitit(jobs, parameters)


class _Submitit(Executor):
    queues = True

    def __init__(self, jobs: int, parameters: Mapping[str, Any]):
        super().__init__(jobs)
        _submitit()
        self._others = dict(parameters)
        self._cluster = self._others.pop("cluster", None)

    def start(self, works: Sequence[Work], log: Callable[[str], object]) -> Sequence["_SubmittedJob"]:
        executor = self._executor(works[0].directory)
        try:
            submitted = executor.map_array(_Submitted(imported()), works)
        except (OSError, RuntimeError) as refusal:  # submitit's own errors are RuntimeErrors
            raise RunError(f"submit: {' '.join(str(refusal).split())}") from None
        first = submitted[0]
        what = f"{len(works)} jobs submitted, the first is" if len(works) > 1 else "a job submitted,"
        log(f"{what} {first.job_id}; logs are in {first.paths.folder}")
        return [_SubmittedJob(job) for job in submitted]

    def _executor(self, directory: Path) -> Any:
        try:
            found = _submitit().AutoExecutor(folder=directory / "jobs", cluster=self._cluster)
            array = {"slurm_array_parallelism": self.jobs} if found.cluster == "slurm" else {}
            found.update_parameters(**{"name": "kilolayer", "timeout_min": 24 * 60, **array, **self._others})
        except (RuntimeError, ValueError, TypeError, NameError, AssertionError) as error:
            raise ConfigurationError(f"submit: {' '.join(str(error).split())}") from None
        except OSError as error:
            raise RunError(f"{directory} cannot be written: {error.strerror}") from error
        return found


class _SubmittedJob(Job):
    def __init__(self, job: Any):
        self.job = job

    def has_ended(self) -> bool:
        return bool(self.job.done())

    def failure(self) -> str | None:
        error = self.job.exception()
        return self.job.result() if error is None else _headline(error)

    @property
    def was_interrupted(self) -> bool:
        return self.job.exception() is not None  # it left no answer; a case that fails is an answer

    def stop(self) -> None:
        self.job.cancel()

    def join(self) -> None:
        """Do not wait: the cluster lets a job save."""


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


def _headline(error: BaseException) -> str:
    """Return the part of a submitit error before the quoted logs."""
    return " ".join(
        itertools.takewhile(lambda line: not line.startswith(("---", "Error", "No error")), str(error).splitlines())
    )
