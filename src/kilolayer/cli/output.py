"""Standard output and standard error of the command line: any terminal, closed pipes, full disks."""

import codecs
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from kilolayer.user_code import imported

READER_GONE = 128 + int(getattr(signal, "SIGPIPE", 13))
"""Exit code if the reader of the output closed the pipe before a result was printed."""

CANNOT_WRITE = 2
"""Exit code if a result cannot be printed."""

PLAIN = {
    "±": "+/-",
    "\u00d7": "x",
    "·": ".",
    "…": "...",
    "\u2013": "-",
    "\u2014": "-",
    "→": "->",
    "≥": ">=",
    "≤": "<=",
    "\u2212": "-",
    "°": " deg",
    "²": "^2",
    "³": "^3",
}
"""What stands for a character that the encoding of a terminal does not have."""

LINES = {"─": "-", "━": "-", "╸": "-", "╺": "-", "│": "|", "█": "#"}
"""Lines of tables and bars, likewise."""


def command(*words: object) -> str:
    """Return a command line to run next, with the files of the user's own that this one imported."""
    files = [word for file in imported() for word in ("--import", file)]
    return shlex.join(["kilolayer", *files, *map(str, words)])


def command_asked(*words: object) -> str:
    """Return the command line that was given, to be recorded: imported files by their paths from the current directory,
    if they are below it.
    """
    here = f"{Path.cwd()}{os.sep}"
    return shlex.join(word.removeprefix(here) for word in shlex.split(command(*words)))


def set_up_output() -> None:
    """Make both streams take any text, and open those that the caller closed onto nothing."""
    if sys.stdout is None or sys.stderr is None:
        while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass  # else the next file that is opened would take the number of a standard stream
        os.close(handle)
        nothing = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        sys.stdout, sys.stderr = sys.stdout or nothing, sys.stderr or nothing
    codecs.register_error("plain_characters", _plain)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a notebook's stream, or a test's, has none
            reconfigure(errors="plain_characters")


def complain(text: str) -> None:
    """Print a line on standard error, if somebody can still read it."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def finish_output(code: int, *, listing: bool) -> int:
    """Write out what is still buffered.

    Args:
        code: the exit code of the command so far.
        listing: the command only lists things, so a reader that has seen enough is no fault.

    Returns:
        The exit code.
    """
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        code = output_failed(error, code, listing=listing)
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
        return code
    _discard(sys.stderr)
    return code


@contextlib.contextmanager
def exit_code_stands(code: int) -> Iterator[None]:
    """Print a result; if it cannot be printed, an exit code other than 0 is still that of the command."""
    try:
        yield
    except OSError as error:
        if code == 0:
            raise
        raise SystemExit(code) from error


def output_failed(error: OSError | ValueError, code: int, *, listing: bool) -> int:
    """Give up standard output, and return the exit code; see `finish_output`."""
    _discard(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return code or (0 if listing else READER_GONE)
    complain(f"kilolayer: error: standard output cannot be written: {getattr(error, 'strerror', None) or error}")
    return code or CANNOT_WRITE


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace the characters that an encoding does not have: an error handler of `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(PLAIN.get(one) or LINES.get(one, "?") for one in characters), error.end


def _discard(stream: TextIO) -> None:
    """Send what a stream still holds to nothing, so that Python does not fail on it when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
        stream.flush()
