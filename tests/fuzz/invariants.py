"""What holds for any input: success or one line, in time, nothing left behind, nothing outside touched, nothing run.

KILOLAYER_FUZZ_CASES is the number of cases of each generator: more in `make test-all`, many in `make fuzz`. A case is
found again by its number.
"""

import hashlib
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CASES = int(os.environ.get("KILOLAYER_FUZZ_CASES", "20"))
FIRST = int(os.environ.get("KILOLAYER_FUZZ_FIRST", "0"))
SECONDS = 15.0
"""Of the processor that a case may take: a machine that is busy with others makes no case slower."""

HANGS = 120.0
"""Seconds after which a case that waits is stopped."""

CANARY = "fuzz-canary"
"""A file that strings in the inputs would make if anything ran them."""

HOSTILE = [
    *(
        "",
        " ",
        "\t",
        "\n",
        "0",
        "-1",
        "1",
        "2",
        "1.5",
        "-0.0",
        "nan",
        "inf",
        "-inf",
        "1e999",
        "1e-400",
        "0x10",
        "1_000",
    ),
    *("true", "True", "false", "None", "null", "[]", "{}", "()", "[[[[", '{"a": 1}', "..", ".", "/", "/dev/null", "~"),
    *(str(2**31 - 1), str(2**31), str(2**32), str(2**63), str(2**64), str(-(2**63)), "9" * 400, "0" * 400),
    *("a" * 5000, "é", "鹿", "\u202e", "\x1b[31m", "a\nb\nc", "%s%n", "{0}", "$(touch fuzz-canary)"),
    *("__import__('os').system('touch fuzz-canary')", "`touch fuzz-canary`", "; touch fuzz-canary", "../../etc/passwd"),
    *("--help=x", "--", "-", "-h5", "=", "==", "a=b", "a,b", "0..3", "3..0", "0..99999999999"),
]
"""Texts that break careless readers."""


def generators(name: str) -> Iterator[tuple[int, random.Random]]:
    """Yield the number and the random generator of each case of one kind."""
    for number in range(FIRST, FIRST + CASES):
        yield number, random.Random(f"{name} {number}")


class TooSlowError(BaseException):
    """A case took longer than it may."""


@contextmanager
def time_limit() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise TooSlowError("it took too long")

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, HANGS)}
    previous = {number: signal.signal(number, stop) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0.0)
            signal.signal(number, previous[number])


def contents(directory: Path) -> dict[str, str]:
    """Return a digest of every file, and the target of every link, below a directory."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "directory"
    return found


def check_command(main: Callable[[Sequence[str]], int], arguments: Sequence[str], capsys, *, case: object) -> int:
    """Run a command line: it succeeds, or prints one short line with exit code 2."""
    capsys.readouterr()
    shown = f"case {case}: {arguments!r:.1000}"
    try:
        with time_limit():
            code = main(list(arguments))
    except (Exception, TooSlowError) as error:
        raise AssertionError(f"{shown} raised {type(error).__name__}: {error!s:.300}") from error
    out, err = capsys.readouterr()
    assert code in (0, 2), f"{shown} ended with {code}: {err}"
    assert "Traceback" not in out + err, shown
    if code == 2:
        check_line(err, shown)
        assert out == "", shown
    return code


def check_line(text: str, shown: str) -> None:
    """Check that an error is one short line without control characters."""
    lines = text.splitlines()
    assert len(lines) == 1, f"{shown} printed {len(lines)} lines: {text:.2000}"
    assert len(text) < 1000, f"{shown} printed {len(text)} characters: {text:.300}"
    assert text.rstrip("\n").isprintable(), f"{shown} printed control characters: {text!r}"


def check_call(call: Callable[[], object], allowed: type[Exception], *, case: object) -> str:
    """Call something: it returns, or raises an error of one short line. Returns the message."""
    try:
        with time_limit():
            call()
    except allowed as error:
        check_line(str(error), f"case {case}")
        return str(error)
    except (Exception, TooSlowError) as error:
        raise AssertionError(f"case {case} raised {type(error).__name__}: {error!s:.500}") from error
    return ""


def nothing_ran(directory: Path) -> bool:
    """Return whether no text of an input was run as code."""
    return not (directory / CANARY).exists() and not Path(CANARY).exists() and CANARY not in sys.modules
