"""The library's own layout of a data set: an archive with the fields of `Dataset` as arrays of these names."""

from pathlib import Path

import numpy as np

from kilolayer.data.datasets.archive import Archive, names_in, opened, write_archive
from kilolayer.data.datasets.dataset import Dataset
from kilolayer.data.datasets.sources import DatasetFormat, register_dataset_format

ARRAYS = ("observation", "action", "last", "failed")
"""Arrays that the library's own layout must have."""

OPTIONAL = ("achieved_goal", "desired_goal")
"""Arrays that it may have."""

ENVIRONMENT = "environment"
"""The array that names the environment."""


def read_own(path: Path) -> Dataset:
    """Read the library's own layout.

    Raises:
        ConfigurationError: in one line, if it is not valid.
    """
    with opened(path) as archive:
        return Dataset(
            observation=archive["observation"],
            action=archive["action"],
            last=archive.flags("last"),
            failed=archive.flags("failed"),
            **{name: archive[name] for name in OPTIONAL if name in archive},
            environment=named_environment(archive),
        )


def write_own(dataset: Dataset, path: Path) -> None:
    """Write the library's own layout; see `write_archive`."""
    names = (*ARRAYS, *(name for name in OPTIONAL if getattr(dataset, name) is not None))
    arrays = {name: getattr(dataset, name) for name in names}
    if dataset.environment is not None:
        arrays[ENVIRONMENT] = np.array(dataset.environment)
    write_archive(path, arrays)


def environment_in(path: Path) -> str | None:
    """Return the environment that an archive names, if it names one."""
    with opened(path) as archive:
        return named_environment(archive)


def named_environment(archive: Archive) -> str | None:
    """Return the environment that an archive names, if it names one."""
    if ENVIRONMENT not in archive:
        return None
    found = archive[ENVIRONMENT]
    return str(found) if found.ndim == 0 and found.dtype.kind == "U" else None


register_dataset_format(
    DatasetFormat(
        "npz",
        read=read_own,
        knows=lambda path: {"observation", "last"} <= names_in(path),
        write=write_own,
        environment=environment_in,
    )
)
