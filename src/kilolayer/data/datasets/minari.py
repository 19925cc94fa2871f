"""Data sets of Minari, by the package minari: a folder with `data/metadata.json` and the episodes beside it.

An episode of n actions has n + 1 observations. They are Dicts with `observation`, `achieved_goal` and `desired_goal`,
or plain numbers. Actions are in the units of the environment, with the bounds of its action space.
"""

import contextlib
import importlib
import io
import json
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kilolayer.data.datasets.dataset import Dataset
from kilolayer.data.datasets.sources import (
    DatasetFormat,
    DatasetSource,
    register_dataset_format,
    register_dataset_source,
)
from kilolayer.errors import ConfigurationError
from kilolayer.files import sync, whole_directory

PREFIX = "minari"

NAME = re.compile(r"[A-Za-z0-9][-\w]*-v\d+")
"""Of the folder of a data set that is written: a name and a version."""

NEEDS = "pip install 'kilolayer[minari]'"

METADATA = Path("data", "metadata.json")

SPACES = ("observation_space", "action_space")
"""Must be in the metadata: without them minari would build the environment that a stranger's file names."""

ENVIRONMENT = "kilolayer_environment"
"""Of the metadata of data that this library writes."""

GOALS = ("achieved_goal", "desired_goal")


def read_folder(path: Path, where: str | None = None) -> Dataset:
    """Read the folder of a data set.

    Raises:
        ConfigurationError: in one line, if minari is not installed, or the data are not valid.
    """
    where = os.fspath(path) if where is None else where
    about = _metadata(path, where)
    with _package(where):
        from minari import MinariDataset

        with _one_line(where):
            data = MinariDataset(path.absolute() / "data")
            low, high = _bounds(where, data.action_space)
            parts = [_episode(where, number, one, low, high) for number, one in enumerate(data.iterate_episodes())]
    if not parts:
        raise ConfigurationError(f"{where} is empty: it has no episodes")
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Dataset(**joined, environment=_environment(about))


def write_folder(dataset: Dataset, path: Path) -> None:
    """Write the folder of a data set, whose name must be one of Minari: `reacher-noisy-v0`.

    Raises:
        ConfigurationError: for another name, or if minari is not installed.
        RunError: if the folder exists or cannot be written.
    """
    where = os.fspath(path)
    with _package(where):
        import gymnasium
        import minari
        from minari.data_collector import EpisodeBuffer
        from minari.dataset.minari_storage import MinariStorage

        if not NAME.fullmatch(path.name):
            raise ConfigurationError(
                f"output={where!r}: a data set of Minari has a name and a version, such as reacher-v0; rename it"
            )

        def space(array: np.ndarray, bound: float) -> Any:
            return gymnasium.spaces.Box(-bound, bound, array.shape[1:], np.float32)

        goals = {name: getattr(dataset, name) for name in GOALS if getattr(dataset, name) is not None}
        seen: dict[str, np.ndarray] = {"observation": dataset.observation, **goals}
        spaces = {name: space(array, np.inf) for name, array in seen.items()}
        plain = not goals
        observation_space = spaces["observation"] if plain else gymnasium.spaces.Dict(spaces)
        with whole_directory(path.absolute()) as folder:  # minari trips over relative ones
            (folder / "data").mkdir()
            storage = MinariStorage.new(folder / "data", observation_space, space(dataset.action, 1.0))
            about = {"dataset_id": path.name, "minari_version": minari.__version__}
            storage.update_metadata(
                about if dataset.environment is None else about | {ENVIRONMENT: dataset.environment}
            )
            starts, ends = dataset.starts, np.flatnonzero(dataset.last) + 1
            buffers = []
            for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
                over = np.zeros(end - start - 1, bool)
                failed = over.copy()
                failed[-1], over[-1] = dataset.failed[end - 1], not dataset.failed[end - 1]
                rows = {name: array[start:end] for name, array in seen.items()}
                buffers.append(
                    EpisodeBuffer(
                        id=number,
                        observations=rows["observation"] if plain else rows,
                        actions=dataset.action[start : end - 1],
                        rewards=list(np.zeros(end - start - 1, np.float32)),
                        terminations=list(failed),
                        truncations=list(over),
                    )
                )
            storage.update_episodes(buffers)
            for file in folder.rglob("*"):
                sync(file)


def read_named(name: str, folder: Path | None) -> Dataset:
    """Read a data set of Minari by its name; one that is missing is downloaded by the package minari.

    Args:
        name: such as `D4RL/pointmaze/umaze-v2`.
        folder: where the data sets are; None for Minari's own.

    Raises:
        ConfigurationError: in one line, if it is missing and cannot be downloaded, or is not valid.
    """
    where = f"{PREFIX}:{name}"
    path = _place(name, folder)
    if not (path / METADATA).is_file():
        _download(name, path, folder)
    return read_folder(path, f"{where} ({path})")


def environment_of_name(name: str) -> str | None:
    """Return the environment of a data set in Minari's own folder; None if it is not there, or does not tell."""
    path = _place(name, None)
    return _environment(_metadata(path, f"{PREFIX}:{name}")) if (path / METADATA).is_file() else None


def _place(name: str, folder: Path | None) -> Path:
    parts = name.split("/")
    if not name or any(part in ("", ".", "..") for part in parts) or "\\" in name:
        raise ConfigurationError(
            f"dataset='{PREFIX}:{name}' is no name of Minari; they are such as {PREFIX}:D4RL/pointmaze/umaze-v2"
        )
    root = os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets"
    return (Path(root).expanduser() if folder is None else folder).joinpath(*parts)


def _download(name: str, path: Path, folder: Path | None) -> None:
    """Let the package minari download a data set into its own folder."""
    missing = f"dataset='{PREFIX}:{name}': {path} holds no data set"
    if folder is not None:
        raise ConfigurationError(f"{missing}; minari downloads to its own folder alone: leave dataset_dir out")
    with _package(f"{missing}, and its download"):
        package: Any = importlib.import_module("minari")
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                package.download_dataset(name)
        except Exception as error:  # whatever a network raises
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigurationError(f"{missing}, and cannot be downloaded: {reason[:200]}") from None


def _metadata(path: Path, where: str) -> dict[str, Any]:
    try:
        found = json.loads((path / METADATA).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{where}: {METADATA} cannot be read: {type(error).__name__}") from None
    missing = [name for name in SPACES if not isinstance(found, dict) or not isinstance(found.get(name), str)]
    if missing:
        raise ConfigurationError(f"{where}: {METADATA} does not tell {' and '.join(missing)}")
    return found


def _environment(about: dict[str, Any]) -> str | None:
    own = about.get(ENVIRONMENT)
    if isinstance(own, str):
        return own
    try:
        return f"gym:{json.loads(about['env_spec'])['id']}"
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def _bounds(where: str, space: Any) -> tuple[np.ndarray, np.ndarray]:
    low, high = getattr(space, "low", None), getattr(space, "high", None)
    if low is None or high is None:
        raise ConfigurationError(f"{where}: actions are {type(space).__name__}; only continuous ones (Box) can be read")
    return np.asarray(low, np.float64).reshape(-1), np.asarray(high, np.float64).reshape(-1)


def _episode(where: str, number: int, one: Any, low: np.ndarray, high: np.ndarray) -> dict[str, np.ndarray]:
    """Return the rows of an episode, with actions mapped from their bounds onto [-1, 1]."""
    where = f"{where}: episode {number}"
    seen = one.observations if isinstance(one.observations, dict) else {"observation": one.observations}
    if "observation" not in seen:
        raise ConfigurationError(f"{where} has no 'observation'; its observations have {', '.join(seen) or 'nothing'}")
    action = np.asarray(one.actions)
    rows = len(action) + 1
    action = action.reshape(len(action), -1)
    bounded = np.isfinite(low) & np.isfinite(high) & (high > low)
    scale, middle = np.where(bounded, high - low, 2.0) / 2.0, np.where(bounded, (high + low) / 2.0, 0.0)
    if action.shape[1:] != scale.shape:
        raise ConfigurationError(f"{where}: actions have {action.shape[1]} numbers and the action space {len(scale)}")
    found = {"action": np.concatenate([(action - middle) / scale, np.zeros((1, len(scale)))]).astype(np.float32)}
    for name in ("observation", *(goal for goal in GOALS if goal in seen)):
        array = np.asarray(seen[name])
        if len(array) != rows:
            raise ConfigurationError(f"{where}: {name} has {len(array)} rows, and {rows - 1} actions need {rows}")
        if array.dtype.kind != "f":
            raise ConfigurationError(f"{where}: {name} is {array.dtype}; it needs floating-point numbers")
        found[name] = array.reshape(rows, -1)
    last = np.zeros(rows, bool)
    last[-1] = True
    terminations = np.asarray(one.terminations)
    return found | {"last": last, "failed": last & bool(terminations.size and terminations[-1])}


@contextlib.contextmanager
def _package(where: str) -> Iterator[None]:
    """Say in one line that minari is not installed, and keep its warnings to itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("minari")
            importlib.import_module("h5py")
        except ImportError as error:
            raise ConfigurationError(
                f"{where} needs {error.name or 'minari'}, which is not installed: {NEEDS}"
            ) from None
        yield


@contextlib.contextmanager
def _one_line(where: str) -> Iterator[None]:
    """Say in one line what minari and h5py raise for data that are damaged."""
    try:
        yield
    except ConfigurationError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"{where} cannot be read: {type(error).__name__}: {reason}") from None


register_dataset_format(
    DatasetFormat(
        PREFIX,
        read=read_folder,
        knows=lambda path: (path / METADATA).is_file(),
        write=write_folder,
        environment=lambda path: _environment(_metadata(path, os.fspath(path))),
    )
)
register_dataset_source(DatasetSource(PREFIX, read_named, environment_of_name))
