"""Training by several processes: how they find each other, and how all end when one does."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from kilolayer.cli.output import complain
from kilolayer.errors import ConfigurationError
from kilolayer.hosts import SILENCE_SECONDS, START_SECONDS, Place, is_of_others, join, leave, place_in

FLAGS = ("coordinator", "num_processes", "process_id")

ENDED = 2
"""Exit code of a process that ends because another one did."""

ADVICE = "resume from the last checkpoint, which is whole"

LOG_FILTER = """
import signal, sys
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
apart, lost, joined, *noise = sys.argv[1:]
why, fatal = apart, False
for line in sys.stdin:
    if line.strip() == joined:
        why = lost
    elif "JAX distributed service detected fatal errors" in line and not fatal:
        fatal = True
        print(why, flush=True)
    elif not fatal and not any(word in line for word in noise):
        print(line, end="", flush=True)
"""
"""Reads what libraries below Python print on standard error, and passes it on. JAX aborts a process whose first process
is gone, or whose others do not come, before Python gets to say so, and prints a trace of the stack: in its place comes
one line."""

JOINED = "kilolayer: joined"
"""Tells the log filter that the processes have found each other."""

APART = f"kilolayer: error: the processes did not find each other within {START_SECONDS} s"
LOST = f"kilolayer: error: process 0 has ended; {ADVICE}"

NOISE = (
    "recoverable task feature",
    "Gloo] Rank",
    "coordination_service",
    "preemption_sync_manager",
    "gRPC error",
    "GRPC",
    "received from peer",
)
"""Lines about the joining of processes that the log filter leaves out."""


@contextmanager
def together(given: Mapping[str, str]) -> Iterator[None]:
    """Join the other processes of this training for as long as it lasts; do nothing if there are none.

    Args:
        given: the flags, by name.

    Raises:
        ConfigurationError: for flags that do not say where the others are, or if they are not found.
    """
    place = _place(given)
    if place is None:
        yield
        return
    _take_down_what_is_printed_below()
    watch = join(place, _end)
    os.write(2, f"{JOINED}\n".encode())
    try:
        yield
    except BaseException as error:
        if is_of_others(error):
            watch.suspect()
            time.sleep(SILENCE_SECONDS)  # the watch finds out which process is gone, and ends this one
        if not (isinstance(error, SystemExit) and not error.code):
            with suppress(Exception):
                watch.say(str(error) or type(error).__name__)
        watch.stop()
        raise
    leave(watch)


def _place(given: Mapping[str, str]) -> Place | None:
    if "coordinator" not in given:
        for name in FLAGS[1:]:
            if name in given:
                raise ConfigurationError(f"--{name.replace('_', '-')} {given[name]} needs --coordinator HOST:PORT")
        return place_in(os.environ) if _devices(given) > 1 else None
    numbers = []
    for name in FLAGS[1:]:
        flag = f"--{name.replace('_', '-')}"
        if not given.get(name, "").isdecimal():
            raise ConfigurationError(f"--coordinator {given['coordinator']} needs {flag}, a number")
        numbers.append(int(given[name]))
    processes, process = numbers
    if process >= processes:
        raise ConfigurationError(f"--process-id {process} must be below --num-processes {processes}")
    if not given["coordinator"].rpartition(":")[2].isdecimal():
        raise ConfigurationError(f"--coordinator {given['coordinator']} must be HOST:PORT")
    return Place(given["coordinator"], processes, process)


def _devices(given: Mapping[str, str]) -> int:
    """Return the devices that are asked for, or those of the run that is resumed."""
    text = given.get("devices")
    if text is None and "resume" in given:
        with suppress(OSError, ValueError, AttributeError):
            text = str(json.loads((Path(given["resume"]) / "config.json").read_text()).get("devices"))
    return int(text) if text is not None and text.isdecimal() else 1


def _take_down_what_is_printed_below() -> None:
    """Let the log filter read what is written to both standard streams from now on, but for what Python writes."""
    own = {number: os.dup(number) for number in (1, 2)}
    command = [sys.executable, "-S", "-c", LOG_FILTER, APART, LOST, JOINED, *NOISE]
    log_filter = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=own[2], text=True)
    assert log_filter.stdin is not None
    for number in own:
        os.dup2(log_filter.stdin.fileno(), number)
    sys.stdout = open(own[1], "w", encoding="utf-8", errors=sys.stdout.errors)  # noqa: SIM115
    sys.stderr = open(own[2], "w", buffering=1, encoding="utf-8", errors=sys.stderr.errors)  # noqa: SIM115


def _end(why: str) -> None:
    """End this process, whatever it waits for."""
    complain(f"kilolayer: error: {why}; {ADVICE}")
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(ENDED)
