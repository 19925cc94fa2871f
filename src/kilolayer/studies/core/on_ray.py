"""Train several cases of a study at once as tasks of Ray, on this machine or on a cluster."""

import dataclasses
import functools
import logging
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from kilolayer.errors import ConfigurationError, RunError
from kilolayer.studies.core.executor import Executor, Job
from kilolayer.studies.core.processes import set_up_for
from kilolayer.studies.core.run import StudyStoppedError, Work, one_line
from kilolayer.studies.core.watch import POLL_SECONDS
from kilolayer.user_code import import_missing, imported

SAVE_SECONDS = 120.0
"""Time that a task gets to save after it was asked to stop."""

OF_THE_CLUSTER = ("address", "namespace", "runtime_env")
"""Parameters of the connection to Ray; the others are those of a task."""


def by_ray(jobs: int, parameters: Mapping[str, Any]) -> Executor:
    """Return workers that train each case in a task of Ray, and wait for them.

    Ray starts a task again whose process or machine died, and the task resumes from its checkpoint. A signal stops the
    tasks, which save; the study resumes when it starts again.

    Args:
        jobs: the largest number of tasks at once. Ray runs as many of them as its machines have room for.
        parameters: `address` of a cluster (unless given, that in RAY_ADDRESS, or the one that runs on this machine, or
            else Ray is started here for the time of the study), and what a task takes, such as `num_cpus`, `num_gpus`
            and `max_retries`. Where Ray has GPUs, a task takes one of them unless `num_gpus` is given.

    Raises:
        ConfigurationError: if Ray is not installed, or for an unknown parameter.
    """
    return _Ray(jobs, parameters)


class _Ray(Executor):
    def __init__(self, jobs: int, parameters: Mapping[str, Any]):
        super().__init__(jobs)
        self._ray = _ray()
        self._cluster = {name: parameters[name] for name in OF_THE_CLUSTER if name in parameters}
        self._options = {name: value for name, value in parameters.items() if name not in OF_THE_CLUSTER}
        with _one_line_errors():
            self._task(self._options)
        self._connected = False

    def _task(self, options: Mapping[str, Any]) -> Any:
        # A process for each task: the memory of a device, and what a case compiled, is free again after it.
        return self._ray.remote(**{"max_calls": 1, "num_cpus": 1, **options})(_train_in_task)

    def __enter__(self) -> Self:
        if not self._ray.is_initialized():
            with _one_line_errors(), warnings.catch_warnings():
                # JAX warns of forks; those of Ray start other programs at once.
                warnings.filterwarnings("ignore", message=r".*os\.fork\(\)", category=RuntimeWarning)
                self._ray.init(
                    **self._cluster, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR
                )
            self._connected = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connected:
            self._ray.shutdown()
            self._connected = False

    def start(self, works: Sequence[Work], log: Callable[[str], object]) -> Sequence["_Task"]:
        has_gpus = self._ray.cluster_resources().get("GPU", 0) >= 1
        task = self._task({"num_gpus": 1 if has_gpus else 0, **self._options})
        return [
            _Task(self._ray, task.remote(dataclasses.replace(work, directory=work.directory.resolve()), imported()))
            for work in works
        ]

    def wait(self, running: Sequence[Job]) -> None:
        answers = [job.answer for job in running if isinstance(job, _Task)]
        self._ray.wait(answers, timeout=POLL_SECONDS)


class _Task(Job):
    def __init__(self, ray: Any, answer: Any):
        self._ray, self.answer = ray, answer

    def has_ended(self) -> bool:
        return bool(self._ray.wait([self.answer], timeout=0)[0])

    def failure(self) -> str | None:
        return self._end[0]

    @property
    def was_interrupted(self) -> bool:
        return self._end[1]

    @functools.cached_property
    def _end(self) -> tuple[str | None, bool]:
        """Why the task failed, and whether that was from outside."""
        try:
            return self._ray.get(self.answer)
        except self._ray.exceptions.RayError as error:  # its process or its machine died
            lines = str(error).strip().splitlines() or [""]
            return f"{type(error).__name__}: {lines[0]}", True

    def stop(self) -> None:
        self._ray.cancel(self.answer)  # as Ctrl-C does: it saves

    def join(self) -> None:
        self._ray.wait([self.answer], timeout=SAVE_SECONDS)


def _train_in_task(work: Work, imports: Sequence[str]) -> tuple[str | None, bool]:
    """Train a case; return why it failed, and whether a signal stopped it, so that it can resume."""
    set_up_for(work)
    try:
        import_missing(imports)
        work.train()
    except StudyStoppedError as stopped:
        return f"it was stopped by {stopped.signal.name} and saved", True
    except Exception as error:
        traceback.print_exc()
        return one_line(error), False
    return None, False


def _ray() -> Any:
    """Import Ray.

    Raises:
        ConfigurationError: if it is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise ConfigurationError(
            "submitting tasks to Ray needs ray; install it with `pip install 'kilolayer[ray]'`"
        ) from None
    return ray


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Raise what Ray says of parameters, and of a cluster that is not there, as one line."""
    try:
        yield
    except (ValueError, TypeError, AssertionError) as error:
        raise ConfigurationError(f"submit: {' '.join(str(error).split())}") from None
    except (ConnectionError, RuntimeError) as error:
        raise RunError(f"submit: {' '.join(str(error).split())}") from None
