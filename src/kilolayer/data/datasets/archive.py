"""Archives of arrays (`.npz`): read without running anything in them, and written the same for the same data."""

import contextlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from kilolayer.errors import ConfigurationError, RunError
from kilolayer.files import PARTIAL, sync

BEGINNING_OF_ZIP = (1980, 1, 1, 0, 0, 0)
"""The time of every file in an archive, so that the same data give the same bytes."""

DAMAGED = (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
"""What numpy and zipfile raise for archives that are damaged."""


class Archive:
    """The arrays of an archive, each read when it is asked for."""

    def __init__(self, path: Path, where: str):
        """Open an archive.

        Args:
            path: of the file.
            where: what to call it in messages.

        Raises:
            ConfigurationError: in one line, if it is none.
        """
        self.path, self.where = path, where
        with contextlib.ExitStack() as stack, self._one_line():
            handle = stack.enter_context(open(path, "rb"))  # numpy leaves it open where it fails
            self._file = np.load(handle, allow_pickle=False)
            if not isinstance(self._file, np.lib.npyio.NpzFile):
                raise ConfigurationError(f"{where} is no archive of arrays (.npz)")
            self._open = stack.pop_all()

    def __contains__(self, name: str) -> bool:
        return name in self._file.files

    @property
    def names(self) -> list[str]:
        """The names of all arrays."""
        return list(self._file.files)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self:
            raise ConfigurationError(
                f"{self.where} has no array {name!r}; it has {', '.join(sorted(self.names)) or 'none'}"
            )
        with self._one_line(name):
            return self._file[name]

    def flags(self, name: str) -> np.ndarray:
        """Return an array of zeros and ones as booleans.

        Raises:
            ConfigurationError: if it has other values, or more than one number for a row.
        """
        found = self[name]
        if found.ndim != 1 or found.dtype.kind not in "biuf":
            raise ConfigurationError(
                f"{self.where}: {name} is {found.dtype}{list(found.shape)}; it needs one number for each row"
            )
        if not np.isin(found, (0, 1)).all():
            row = int(np.argmin(np.isin(found, (0, 1))))
            raise ConfigurationError(f"{self.where}: {name}[{row}] is {found[row]}; it must be 0 or 1")
        return found.astype(bool)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._open.close()

    @contextlib.contextmanager
    def _one_line(self, name: str = "") -> Iterator[None]:
        try:
            yield
        except ConfigurationError:
            raise
        except DAMAGED as error:
            what = f"{self.where}: {name}" if name else self.where
            if "allow_pickle" in str(error) or "pickle" in str(error):
                why = "holds Python objects, which are never loaded, or is no archive of arrays (.npz)"
            else:
                why = f"cannot be read: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise ConfigurationError(f"{what} {why}") from None


@contextlib.contextmanager
def opened(path: Path, where: str | None = None) -> Iterator[Archive]:
    """Open an archive, and close it at the end; see `Archive`."""
    archive = Archive(path, os.fspath(path) if where is None else where)
    with contextlib.closing(archive):
        yield archive


def names_in(path: Path) -> set[str]:
    """Return the names of the arrays in a file; none if it is no archive that can be read."""
    try:
        with opened(path) as archive:
            return set(archive.names)
    except ConfigurationError:
        return set()


def write_archive(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an archive: whole or not at all, and the same for the same arrays.

    Raises:
        RunError: if the path exists or cannot be written; nothing is left behind.
    """
    if path.exists() or path.is_symlink():
        raise RunError(f"{path} exists already; choose another file")
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=PARTIAL)
        with open(handle, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, array in arrays.items():
                    entry = zipfile.ZipInfo(f"{name}.npy", BEGINNING_OF_ZIP)
                    with archive.open(entry, "w", force_zip64=True) as inside:
                        np.lib.format.write_array(inside, np.asanyarray(array), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(partial, 0o666 & ~mask)
        os.replace(partial, path)
        sync(path.parent)
    except BaseException as error:
        if partial is not None:
            with contextlib.suppress(OSError):
                os.unlink(partial)
        if isinstance(error, OSError):
            raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
        raise
