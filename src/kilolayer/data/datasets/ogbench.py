"""Data sets of OGBench: their files, their folder, their download.

A file has, for an episode of n actions, n + 1 rows, whose last has `terminals` 1; its action leads nowhere. OGBench's
loader turns it into one of two layouts, which are read here too where somebody saved them:

* regular: n rows, with `next_observations`; `terminals` is 1 at the last;
* compact: n + 1 rows, with `valids`, 0 at the last; `terminals` is 1 at the last two.

Data that this library writes also have `achieved_goals`, `desired_goals`, `failures` and `environment`, which OGBench's
loader does not look at.
"""

import contextlib
import importlib
import io
import re
from pathlib import Path

import numpy as np

from kilolayer.data.datasets.archive import Archive, names_in, opened, write_archive
from kilolayer.data.datasets.dataset import Dataset
from kilolayer.data.datasets.npz import ENVIRONMENT, environment_in, named_environment
from kilolayer.data.datasets.sources import (
    DatasetFormat,
    DatasetSource,
    register_dataset_format,
    register_dataset_source,
)
from kilolayer.errors import ConfigurationError

PREFIX = "ogbench"

FOLDER = "~/.ogbench/data"
"""Where OGBench keeps its data sets."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*(-[A-Za-z0-9_]+)+-v\d+")

NEEDS = "pip install 'kilolayer[ogbench]'"

GOALS = {"achieved_goals": "achieved_goal", "desired_goals": "desired_goal"}
"""Arrays of this library's own, by the fields of `Dataset`."""


def read_file(path: Path, where: str | None = None) -> Dataset:
    """Read a file of OGBench, in any of its layouts.

    Raises:
        ConfigurationError: in one line, if it is not valid.
    """
    with opened(path, where) as archive:
        observation, action = archive["observations"], archive["actions"]
        if "next_observations" in archive:
            return _from_regular(archive, observation, action)
        # In the compact layout it is `valids` that tells the last row: `terminals` is 1 before it, too.
        last = ~archive.flags("valids") if "valids" in archive else archive.flags("terminals")
        failed = archive.flags("failures") if "failures" in archive else np.zeros(len(last), bool)
        goals = {field: archive[name] for name, field in GOALS.items() if name in archive}
        return Dataset(observation, action, last, failed, **goals, environment=named_environment(archive))


def write_file(dataset: Dataset, path: Path) -> None:
    """Write a file of OGBench; see `write_archive`."""
    arrays = {
        "observations": dataset.observation,
        "actions": dataset.action,
        "terminals": dataset.last.astype(np.float32),
        "failures": dataset.failed.astype(np.float32),
    }
    for name, field in GOALS.items():
        if getattr(dataset, field) is not None:
            arrays[name] = getattr(dataset, field)
    if dataset.environment is not None:
        arrays[ENVIRONMENT] = np.array(dataset.environment)
    write_archive(path, arrays)


def read_named(name: str, folder: Path | None) -> Dataset:
    """Read a data set of OGBench by its name; a file that is missing is downloaded by the package ogbench.

    Args:
        name: such as `pointmaze-medium-navigate-v0`.
        folder: where the files are; None for OGBench's own.

    Raises:
        ConfigurationError: in one line, if there is no such file and it cannot be downloaded, or it is not valid.
    """
    _check_name(name)
    place = Path(FOLDER).expanduser() if folder is None else folder
    path = place / f"{name}.npz"
    if not path.is_file():
        _download(name, place)
    return read_file(path, f"{PREFIX}:{name} ({path})")


def environment_of_name(name: str) -> str:
    """Return the environment of a data set: its name without the kind of data, which stands before the version."""
    _check_name(name)
    words = name.split("-")
    return f"{PREFIX}:{'-'.join([*words[:-2], words[-1]])}"


def _from_regular(archive: Archive, observation: np.ndarray, action: np.ndarray) -> Dataset:
    """Put the last state of each episode, which is only among the next ones, behind its rows."""
    following, ends = archive["next_observations"], archive.flags("terminals")
    if not len(ends) == len(observation) == len(following) == len(action):
        raise ConfigurationError(
            f"{archive.where}: observations, next_observations, actions and terminals have {len(observation)}, "
            f"{len(following)}, {len(action)} and {len(ends)} rows; all need as many"
        )
    if following.shape != observation.shape:
        raise ConfigurationError(
            f"{archive.where}: next_observations has shape {list(following.shape)} and observations "
            f"{list(observation.shape)}; they must be alike"
        )
    if not len(ends):
        raise ConfigurationError(f"{archive.where} is empty: it has no rows")
    after = np.flatnonzero(ends)
    if not after.size or after[-1] != len(ends) - 1:
        raise ConfigurationError(f"{archive.where}: the last row does not end an episode; the file was cut short")
    last = np.insert(np.zeros(len(ends), bool), after + 1, True)
    return Dataset(
        observation=np.insert(observation, after + 1, following[after], axis=0),
        action=np.insert(action, after + 1, 0.0, axis=0),
        last=last,
        failed=np.zeros_like(last),
    )


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"dataset='{PREFIX}:{name}' is no name of OGBench; they are such as {PREFIX}:pointmaze-medium-navigate-v0"
        )


def _download(name: str, folder: Path) -> None:
    """Let the package ogbench download a data set."""
    missing = f"dataset='{PREFIX}:{name}': {folder / name}.npz does not exist"
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            package = importlib.import_module("ogbench")
    except ImportError:
        raise ConfigurationError(f"{missing}, and its download needs ogbench: {NEEDS}") from None
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints the address
            package.download_datasets([name], str(folder))
    except Exception as error:  # whatever a network raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigurationError(f"{missing}, and cannot be downloaded: {reason[:200]}") from None


register_dataset_format(
    DatasetFormat(
        PREFIX,
        read=read_file,
        knows=lambda path: {"observations", "actions"} <= names_in(path),
        write=write_file,
        environment=environment_in,
    )
)
register_dataset_source(DatasetSource(PREFIX, read_named, environment_of_name))
