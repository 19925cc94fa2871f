"""Run a measurement in a process of its own, so that its peak memory and its threads are its own."""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from typing import Any

import jax

from kilolayer.errors import KilolayerError
from kilolayer.machine import cpu_cores

RESULT = "kilolayer-bench-result:"
"""Begins a line of output that holds a result."""

DOING = "kilolayer-bench-doing:"
"""Begins a line of output that says what is done now."""

ONE_CORE = "KILOLAYER_BENCH_ONE_CORE"
"""Environment variable that binds a process to one core."""

_apart = False
"""Whether this process was started by `Apart`."""


class Apart:
    """A function in a process of its own, which ends with the context.

    The function returns its result, or is a generator: then it pauses at each result, until `ask` sends it the next
    request. So measurements in several processes can take turns.
    """

    def __init__(
        self,
        function: str,
        arguments: Mapping[str, Any],
        *,
        environment: Mapping[str, str] | None = None,
        one_core: bool = False,
        seconds: float | None = None,
        log: Callable[[str], object] = id,
    ):
        """Start the process.

        Args:
            function: as `module:name`.
            arguments: its keyword arguments, plain data.
            environment: variables to set in that process.
            one_core: bind the process to one core, where the platform can.
            seconds: end the process after so many; None lets it take its time.
            log: called with what the function says that it does; see `tell`.
        """
        self._what = ", ".join(f"{name}={value}" for name, value in arguments.items())
        self._log, self._late = log, False
        self._timer: threading.Timer | None = None
        # Programs must not come from the cache on disk while compiling is timed.
        settings = (
            os.environ
            | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
            | dict(environment or {})
            | ({ONE_CORE: "1"} if one_core else {})
        )
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import main; main()", function, json.dumps(dict(arguments))],
            env=settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.limit(seconds)

    def __enter__(self) -> "Apart":
        """Return this."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    def close(self) -> None:
        """End the process, whatever it does."""
        self.limit(None)
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def result(self) -> Any:
        """Wait for the result, or the next one.

        Returns:
            Plain data.

        Raises:
            KilolayerError: if the process fails or its time is over; one line says why.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(RESULT):
                return json.loads(line.removeprefix(RESULT))
            if line.startswith(DOING):
                self._log(line.removeprefix(DOING).strip())
        raise KilolayerError(f"the measurement of {self._what} failed: {self._reason()}")

    def ask(self, request: str) -> Any:
        """Send a generator its next request, and wait for the result; see `result`."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, and `result` says why
            print(request, file=self._process.stdin, flush=True)
        return self.result()

    def limit(self, seconds: float | None) -> None:
        """Let the process live for so many more seconds; None: for as long as it takes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = threading.Timer(seconds, self._stop)
            self._timer.daemon = True
            self._timer.start()

    def _stop(self) -> None:
        self._late = True
        self._process.kill()

    def _reason(self) -> str:
        code = self._process.wait()
        if self._late:
            return "its time was over"
        if code == -signal.SIGKILL:
            return "it was killed, which happens when memory runs out"
        self._errors.seek(0)
        return (self._errors.read().strip().splitlines() or [f"exit code {code}"])[-1]


def run_apart(function: str, arguments: Mapping[str, Any], **options: Any) -> Any:
    """Call a function in a new process and return its result.

    Args:
        function: as `module:name`.
        arguments: its keyword arguments, plain data.
        options: of `Apart`.

    Returns:
        What the function returned, as plain data.

    Raises:
        KilolayerError: if the process fails; one line says why.
    """
    with Apart(function, arguments, **options) as process:
        return process.result()


def tell(text: str) -> None:
    """Say what is done now, to the log of the `Apart` that started this process; elsewhere, say nothing."""
    if _apart:
        print(f"{DOING}{text}", flush=True)


def peak_bytes() -> int:
    """Return the peak memory of the device, or on a CPU of this process."""
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    return process_peak_bytes()


def process_peak_bytes() -> int:
    """Return the peak memory of this process."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def device_name() -> str:
    """Return the kind of the device, and for a CPU its number of cores."""
    device = jax.devices()[0]
    return device.device_kind if device.platform != "cpu" else cpu_name()


def cpu_name() -> str:
    """Return what the CPU is called as a device."""
    return f"cpu, {cpu_cores()} cores"


def main() -> None:
    """Call the function that the process is for, and print its results."""
    global _apart
    _apart = True
    if ONE_CORE in os.environ and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before JAX starts its threads
    (module, name), arguments = sys.argv[1].split(":"), json.loads(sys.argv[2])
    found: Any = getattr(importlib.import_module(module), name)(**arguments)
    if not isinstance(found, Generator):
        print(RESULT + json.dumps(found), flush=True)
        return
    with suppress(StopIteration):
        result = next(found)
        while True:
            print(RESULT + json.dumps(result), flush=True)
            if not (request := sys.stdin.readline()):
                return  # nobody asks any more
            result = found.send(request.strip())
