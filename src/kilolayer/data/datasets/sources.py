"""Where data sets come from, and the formats that they are written in: two registries that users can add to.

A source is what stands before the colon of a name such as `ogbench:pointmaze-medium-navigate-v0`. A name without one is
a path, which is read by the format that knows it.
"""

import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path

from kilolayer.data.datasets.dataset import Dataset
from kilolayer.errors import ConfigurationError, UnknownNameError, nearest_names
from kilolayer.user_code import is_rerun

SCHEME = re.compile(r"([A-Za-z_][A-Za-z0-9_]+):(.*)", re.DOTALL)
"""A source's prefix has two letters at least, so that the drive of a path is none."""


Writer = Callable[[Dataset, Path], None]
"""Writes a data set at a path, whole or not at all; raises RunError if it cannot be written."""


@dataclasses.dataclass(frozen=True)
class DatasetSource:
    """Data sets with names."""

    prefix: str
    """Stands before the colon of a name."""
    read: Callable[[str, Path | None], Dataset]
    """Returns a data set, given what follows the colon and the folder to look in; None for the source's own."""
    environment: Callable[[str], str | None] = lambda name: None
    """Returns the environment that a data set is of, as this library calls it, without reading the data."""


@dataclasses.dataclass(frozen=True)
class DatasetFormat:
    """A layout of files."""

    name: str
    """What `kilolayer record` takes."""
    read: Callable[[Path], Dataset]
    """Reads a path."""
    knows: Callable[[Path], bool]
    """Returns whether a path is in this format. It must not raise for a path that exists."""
    write: Writer | None = None
    """Writes a data set; None for a format that is only read."""
    environment: Callable[[Path], str | None] = lambda path: None
    """Returns the environment that the data are of, where the files tell."""


_SOURCES: dict[str, DatasetSource] = {}
_FORMATS: dict[str, DatasetFormat] = {}


def register_dataset_source(source: DatasetSource) -> None:
    """Add a source of data sets under its prefix.

    Raises:
        ConfigurationError: if the prefix is taken, or cannot be one.
    """
    if not SCHEME.fullmatch(f"{source.prefix}:"):
        raise ConfigurationError(f"prefix {source.prefix!r} of a source of data sets must be letters, digits and _")
    if not is_rerun("source of data sets", source.prefix) and source.prefix in _SOURCES:
        raise ConfigurationError(f"a source of data sets named {source.prefix!r} is already registered")
    _SOURCES[source.prefix] = source


def unregister_dataset_source(prefix: str) -> None:
    """Remove a source, if it is there."""
    _SOURCES.pop(prefix, None)


def register_dataset_format(form: DatasetFormat) -> None:
    """Add a format of data sets under its name.

    Raises:
        ConfigurationError: if the name is taken.
    """
    if not is_rerun("format of data sets", form.name) and form.name in _FORMATS:
        raise ConfigurationError(f"a format of data sets named {form.name!r} is already registered")
    _FORMATS[form.name] = form


def unregister_dataset_format(name: str) -> None:
    """Remove a format, if it is there."""
    _FORMATS.pop(name, None)


def written_formats() -> list[str]:
    """Return the names of the formats that data can be written in."""
    return [form.name for form in _FORMATS.values() if form.write is not None]


def read_dataset(name: str, folder: str | os.PathLike | None = None) -> Dataset:
    """Read a data set.

    Args:
        name: `ogbench:NAME`, `minari:NAME`, or the path of a file or folder.
        folder: where data sets with names are, in place of the source's own folder.

    Raises:
        ConfigurationError: in one line, if there is no such data set, or it is not valid.
    """
    source, rest = _source_of(name)
    if source is not None:
        return source.read(rest, None if folder is None else Path(folder).expanduser()).checked(name)
    if folder is not None:
        raise ConfigurationError(
            f"dataset_dir={os.fspath(folder)!r} has no effect with the path {name!r}; leave it out"
        )
    path, form = _format_of(name)
    return form.read(path).checked(name)


def environment_of(name: str) -> str | None:
    """Return the environment that a data set is of, as this library calls it; None if the data set does not tell.

    Raises:
        ConfigurationError: in one line, if there is no such data set.
    """
    source, rest = _source_of(name)
    if source is not None:
        return source.environment(rest)
    path, form = _format_of(name)
    return form.environment(path)


def write_dataset(dataset: Dataset, path: str | os.PathLike, form: str) -> None:
    """Write a data set; what is written is whole or absent, and the same data give the same bytes.

    Args:
        dataset: the data.
        path: of the file or folder; it must not exist yet.
        form: one of `written_formats`.

    Raises:
        ConfigurationError: for an unknown format, or data that it cannot hold.
        RunError: if the path exists or cannot be written.
    """
    writer = writer_of(form)
    writer(dataset, Path(path))


def writer_of(form: str) -> Writer:
    """Return what writes a format.

    Raises:
        ConfigurationError: for an unknown format.
    """
    found = _FORMATS.get(form)
    if found is None or found.write is None:
        raise ConfigurationError(f"format={form!r} is unknown; choose one of {', '.join(written_formats())}")
    return found.write


def _source_of(name: str) -> tuple[DatasetSource | None, str]:
    """Return the source of a name and what follows its colon; no source if the name is a path."""
    if "\0" in name or not name:
        raise ConfigurationError(f"dataset={name!r} is not a name; take SOURCE:NAME or a path")
    match = SCHEME.fullmatch(name)
    if match is None or Path(name).exists():
        return None, name
    prefix, rest = match.groups()
    if prefix not in _SOURCES:
        raise UnknownNameError(f"dataset={name!r}: source {prefix!r} is unknown; {nearest_names(prefix, _SOURCES)}")
    return _SOURCES[prefix], rest


def _format_of(name: str) -> tuple[Path, DatasetFormat]:
    """Return a path and its format."""
    path = Path(name).expanduser()
    if not path.exists():
        sources = ", ".join(f"{prefix}:NAME" for prefix in _SOURCES)
        raise ConfigurationError(f"dataset={name!r}: there is no such file; take a path, or one of {sources}")
    for form in _FORMATS.values():
        if form.knows(path):
            return path, form
    raise ConfigurationError(
        f"dataset={name!r} is in no format that is known ({', '.join(_FORMATS)}), or it is damaged"
    )
