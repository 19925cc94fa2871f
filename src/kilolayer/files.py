"""Small files of a run: written whole or not at all, rows that are checked when they are read, and never through links.

A run directory may come from somebody else. A link in it would let the next write change a file outside, so links are
refused.
"""

import csv
import io
import itertools
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from kilolayer.errors import RunError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


PATTERN_CHARACTERS = frozenset("[]*?\\")
"""Characters of a path that stand for others in file patterns."""


PARTIAL = ".partial-"
"""Begin of the names of files that are being written."""


def refuse_links(directory: Path) -> None:
    """Check that nothing in a run directory is a link; the directory itself may be one.

    Raises:
        RunError: naming the first link.
    """
    for parent, folders, files in os.walk(directory):
        for name in sorted(folders + files):
            path = Path(parent, name)
            if path.is_symlink():
                raise RunError(
                    f"{path} is a link to {os.readlink(path)!r}, and files in a run directory must not be links; "
                    "replace it by what it points to, or remove it"
                )


def write_whole(path: Path, text: str) -> None:
    """Write a file; it is whole or as before, even if the power fails. A link is replaced, not followed.

    Raises:
        OSError: if it cannot be written; nothing is left behind.
    """
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=PARTIAL)
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o666 & ~_umask())
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial)
        raise
    sync(path.parent)


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None, *, header: bool = True) -> str:
    """Return rows as lines of a table.

    Args:
        rows: values by column.
        columns: their order; None takes them as they come in the rows.
        header: begin with the names of the columns.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(dict.fromkeys(name for row in rows for name in row)))
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Yield a directory to write into, which becomes `path` at the end: whole or absent, even if the power fails.

    Args:
        path: must not exist yet.

    Raises:
        RunError: if it exists or cannot be written; nothing is left behind.
    """
    if path.exists() or path.is_symlink():
        raise RunError(f"{path} exists already; choose another directory")
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    made = [each for each in path.parents if not each.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        for file in partial.iterdir():
            sync(file)
        sync(partial)
        partial.rename(path)
        sync(path.parent)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        for parent in made:
            with suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError):
            raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
        raise


def json_text(data: Any, *, indent: int | None = 2) -> str:
    """Return plain data as JSON, with null for NaN and infinity, which JSON does not have."""
    return json.dumps(_replace(data, _is_not_finite, None), indent=indent, allow_nan=False)


def remove_partial(directory: Path) -> None:
    """Delete files of a directory that were being written when a process was killed."""
    for path in directory.glob(f"{PARTIAL}*"):
        with suppress(OSError):
            path.unlink()


def unused_directory(path: Path) -> Path:
    """Make a directory, and return its path, which no other process is given: `path`, `path-2`, `path-3`, ...

    Raises:
        OSError: if it cannot be made.
    """
    for number in itertools.count(1):
        candidate = path if number == 1 else path.with_name(f"{path.name}-{number}")
        with suppress(FileExistsError):
            candidate.mkdir(parents=True)
            return candidate
    raise AssertionError


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file; see `write_whole`."""
    write_whole(path, json_text(data) + "\n")


def append_line(path: Path, line: str) -> None:
    """Append a line; it is on the disk when this returns.

    Raises:
        OSError: if it cannot be written, or the file is a link.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with open(os.open(path, flags, 0o666), "w", encoding="utf-8", newline="") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Put a file, or the names of the files in a directory, on the disk, where the system can."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a file with a JSON object in each line, each with the clocks of a run.

    A last line without its end was cut short by a crash and is left out.

    Returns:
        The rows, with NaN for null; none if there is no such file.

    Raises:
        RunError: naming the file and the line, if a line is not such a row.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    return [_row(path, number, line) for number, line in enumerate(lines[:-1], 1)]


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
        if not isinstance(row, Mapping):
            raise ValueError("it is not an object")
        for name in ("env_steps", "gradient_steps"):
            steps = row.get(name, 0 if name == "gradient_steps" else None)
            if type(steps) is not int or steps < 0:
                raise ValueError(f"{name} is {steps!r:.40}")
        for name, value in row.items():
            if isinstance(value, bool) or not isinstance(value, int | float | list | None):
                raise ValueError(f"{name[:40]} is {value!r:.40}")
    except (ValueError, RecursionError) as error:
        why = "it is empty" if not line.strip() else " ".join(str(error).split())[:120]
        raise RunError(
            f"{path}, line {number}: not a row of metrics ({why}); remove the line, or put the file back from a copy"
        ) from error
    return _replace(row, lambda value: value is None, math.nan)


def unfinished_line(path: Path) -> bytes:
    """Return the last line of a file if it has no end; else nothing."""
    try:
        return path.read_bytes().rpartition(b"\n")[2]
    except OSError:
        return b""


@contextmanager
def without_patterns(directory: Path, *, create: bool = False) -> Iterator[Path]:
    """Yield a path to a directory in which no character stands for others in a file pattern.

    Libraries that list files by patterns find nothing in a folder such as `lr[3e-4]`. Such a folder gets a temporary
    link to it.

    Args:
        directory: to lead to.
        create: make the directory if it does not exist yet.

    Raises:
        RunError: if there can be no such link.
    """
    path = directory.resolve()
    if create:
        path.mkdir(parents=True, exist_ok=True)
    if not set(str(path)) & PATTERN_CHARACTERS:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="kilolayer-", ignore_cleanup_errors=True) as place:
        link = Path(place).resolve() / "run"
        try:
            link.symlink_to(path, target_is_directory=True)
        except OSError as error:
            raise RunError(f"{directory} needs a path without any of {' '.join(sorted(PATTERN_CHARACTERS))}") from error
        yield link


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock of a file; the value says whether it was free.

    Raises:
        OSError: if the file cannot be written, or is a link.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with open(os.open(path, flags, 0o666), "r+") as file:
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):
            yield False
            return
        yield True


def _lock(file: IO[str]) -> None:
    if sys.platform == "win32":
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _replace(data: Any, condition: Callable[[Any], bool], new: Any) -> Any:
    """Return plain data with `new` in place of every value for which the condition holds."""
    if isinstance(data, Mapping):
        return {name: _replace(value, condition, new) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_replace(value, condition, new) for value in data]
    return new if condition(data) else data


def _is_not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
