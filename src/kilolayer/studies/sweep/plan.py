"""What is swept: the environment, the space, what counts, and how trials are chosen."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kilolayer.errors import ConfigurationError, RunError, nearest_names
from kilolayer.files import write_json
from kilolayer.runs import TrainConfig, default_config
from kilolayer.runs.defaults import deep_merge
from kilolayer.runs.run_directory import write_errors
from kilolayer.settings import check_count, check_seed
from kilolayer.studies.core.budgets import TIME_AT_GOAL
from kilolayer.studies.core.run import Work
from kilolayer.studies.core.study import LAST, Case, Label, by_full_name, nested
from kilolayer.studies.sweep.space import NOT_SWEPT, Space, SpaceError, read_space

SWEEP_FILE = "sweep.json"
"""What is swept, in the directory of a sweep."""

SWEEP_FORMAT = 1
"""Format of sweep.json. It increases when an older version would misread a sweep."""

Direction = Literal["maximize", "minimize"]

Sampler = Literal["tpe", "random"]
"""tpe: after ten random trials, where good trials are dense (Bergstra et al. 2011); random: all trials at random."""

Pruner = Literal["median", "none"]
"""median: end a trial whose best score so far is worse than the median of the trials before at the same evaluation;
none: train every trial to its end."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What is swept. Everything that the settings of a trial depend on, beside the trials before."""

    env: str
    space: Space
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of all trials; of blocks, dictionaries."""
    metric: str = TIME_AT_GOAL
    """What counts: a name in metrics.jsonl."""
    direction: Direction = "maximize"
    last: int = LAST
    """The score of a trial is the mean of its last evaluations, so many, and of its seeds."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of each trial."""
    sampler: Sampler = "tpe"
    pruner: Pruner = "median"
    seed: int = 0
    """Seed of the sampler."""

    def __post_init__(self) -> None:
        """Validate.

        Raises:
            ConfigurationError: naming what is not valid.
        """
        check_count("last", self.last)
        check_seed(self.seed)
        if both := sorted(by_full_name(self.settings).keys() & self.space.parameters.keys()):
            raise SpaceError([f"space: {name} is set for all trials, too; leave it out in one place" for name in both])

    @classmethod
    def read(cls, env: str, space: Path, settings: Mapping[str, Any], **others: Any) -> "Sweep":
        """Read the space of a sweep from a file and check it.

        Args:
            env: a registered environment, the path of a maze file, or a maze as text.
            space: a YAML or JSON file.
            settings: of all trials; of blocks, dictionaries.
            others: further fields.

        Raises:
            ConfigurationError: for settings that are not valid; a `SpaceError` has all mistakes of a space.
        """
        for name in NOT_SWEPT:
            if name in ("env", "seed") and name in settings:
                raise ConfigurationError(f"{name} cannot be changed as a setting: {NOT_SWEPT[name]}")
        default_config(env)  # an unknown environment is no mistake of the space
        return cls(env, read_space(space, lambda own: trial_config(env, settings, own)), settings, **others)

    def config(self, parameters: Mapping[str, Any]) -> TrainConfig:
        """Return the configuration of a trial.

        Args:
            parameters: its own settings by full name.

        Raises:
            ConfigurationError: if they are not valid.
        """
        return trial_config(self.env, self.settings, parameters)

    def work(self, number: int, parameters: Mapping[str, Any], directory: Path) -> Work:
        """Return a trial as a case to train.

        Args:
            number: of the trial.
            parameters: its own settings by full name.
            directory: of the sweep.
        """
        labels: dict[str, Label] = {"trial": number}
        case = Case(labels | {name: _label(value) for name, value in parameters.items()}, self.config(parameters))
        return Work(case, self.seeds, directory, folder=trial_name(number))

    def scores(self, evaluations: Sequence[Sequence[Mapping[str, Any]]]) -> list[float]:
        """Return the score of a trial after each evaluation of all its seeds; the last one counts.

        Args:
            evaluations: rows of metrics.jsonl of each seed.

        Raises:
            ConfigurationError: if the evaluations have no such metric.
        """
        count = min(map(len, evaluations))
        for rows in evaluations:
            if count > 1 and self.metric not in rows[1]:
                raise ConfigurationError(
                    f"metric={self.metric!r} is not in the evaluations; {nearest_names(self.metric, rows[1])}"
                )
        values = np.array([[row.get(self.metric, np.nan) for row in rows[:count]] for rows in evaluations], float)
        return [float(values[:, max(end - self.last, 0) : end].mean()) for end in range(1, count + 1)]

    def as_data(self) -> dict[str, Any]:
        """Return everything as plain data."""
        data = dataclasses.asdict(self) | {"env": self.config(self.space.first()).env, "space": self.space.as_data()}
        return json.loads(json.dumps(data))

    def keep_at(self, directory: Path) -> None:
        """Write what is swept into the directory of the sweep, or check that the sweep there is the same.

        Raises:
            ConfigurationError: naming what differs.
            RunError: if the directory cannot be read or written.
        """
        file, own = directory / SWEEP_FILE, {"format": SWEEP_FORMAT, **self.as_data()}
        if file.exists():
            held = _held(file)
            for name, value in own.items():
                if held.get(name) != value:
                    raise ConfigurationError(
                        f"{directory} holds a sweep with {name}={_short(held.get(name))}, and not {_short(value)}; "
                        "resume it as it began, or choose another directory"
                    )
            return
        with write_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
            write_json(file, own)


def trial_config(env: str, settings: Mapping[str, Any], parameters: Mapping[str, Any]) -> TrainConfig:
    """Return the configuration of a trial.

    Args:
        env: as for `Sweep.read`.
        settings: of all trials; of blocks, dictionaries.
        parameters: its own settings by full name.

    Raises:
        ConfigurationError: if they are not valid.
    """
    merged: dict[str, Any] = {}
    for layer in (settings, nested(parameters)):
        deep_merge(layer, into=merged)
    return default_config(env, **merged)


def trial_name(number: int) -> str:
    """Return the name of a trial, and of the directory of its runs."""
    return f"trial-{number:04d}"


def _held(file: Path) -> dict[str, Any]:
    try:
        held = json.loads(file.read_text())
        if not isinstance(held, dict):
            raise TypeError("it is not an object")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RunError(f"{file} cannot be read: {' '.join(str(error).split())}") from None
    return held


def _label(value: Any) -> Label:
    """Return a value as a label of a case: numbers with four digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return value if isinstance(value, str | int) and not isinstance(value, bool) else str(value)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:120]}..."
