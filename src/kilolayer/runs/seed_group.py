"""Several seeds of one configuration, each an ordinary run: `DIR/seed-0`, `DIR/seed-1`, ...

`DIR/seeds.json` lists the seeds and how they are trained, so that all of them can be resumed together.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from kilolayer.errors import ConfigurationError, RunError
from kilolayer.files import refuse_links, write_json
from kilolayer.runs.config import TrainConfig
from kilolayer.runs.run_directory import RunDirectory, write_errors
from kilolayer.settings import LONGEST_RANGE, check_seed, whole_numbers

GROUP_FILE = "seeds.json"
"""Beside the run directories of several seeds."""

GROUP_FORMAT = 1
"""Format of seeds.json. It increases when an older version would misread the file."""

MOST_SEEDS = LONGEST_RANGE
"""Limit for one group: a mistyped range does not create a million directories."""

SeedsMode = Literal["threads", "vmap"]
"""threads: every seed runs the program that trains it alone, to the same bits, as many at once as there are cores.
vmap: one program trains all seeds, and computes the same up to rounding."""


@dataclasses.dataclass(frozen=True)
class SeedGroup:
    """A directory that holds a run for each of several seeds."""

    path: Path
    seeds: tuple[int, ...]
    mode: SeedsMode
    devices: int = 1
    """Devices that share the seeds equally, with vmap."""

    def __post_init__(self) -> None:
        """Validate that the devices can share the seeds.

        Raises:
            ConfigurationError: naming the numbers of devices that can.
        """
        seeds = len(self.seeds)
        if self.devices < 1 or seeds % self.devices:
            fitting = [str(count) for count in range(1, seeds + 1) if seeds % count == 0]
            raise ConfigurationError(
                f"devices={self.devices} cannot share {seeds} seeds equally; take {' or '.join(fitting)}, or train "
                "each seed alone on all devices"
            )

    @property
    def runs(self) -> list[RunDirectory]:
        """The run of each seed."""
        return [RunDirectory(self.path / f"seed-{seed}") for seed in self.seeds]

    @staticmethod
    def is_at(path: str | os.PathLike) -> bool:
        """Return whether a directory is one of several seeds."""
        return (Path(path) / GROUP_FILE).is_file()

    @classmethod
    def open(cls, path: str | os.PathLike) -> "SeedGroup":
        """Read which runs a directory holds.

        Raises:
            RunError: if it holds no such group, or a newer version wrote it.
        """
        file = Path(path) / GROUP_FILE
        try:
            found = json.loads(file.read_text())
            if found["format"] > GROUP_FORMAT:
                raise RunError(f"{file} was written by a newer kilolayer (format {found['format']}); update it")
            seeds, mode = found["seeds"], found["mode"]
            if mode not in get_args(SeedsMode) or not all(type(seed) is int for seed in seeds):
                raise ValueError(f"mode {mode!r} of seeds {seeds!r}")
            return cls(Path(path), check_seeds(seeds), mode, int(found.get("devices", 1)))
        except OSError as error:
            raise RunError(f"{path} holds no runs of several seeds: {file.name}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise RunError(f"{file} is not a list of seeds: {type(error).__name__}: {error}") from error

    def create(self, config: TrainConfig) -> list[RunDirectory]:
        """Make the directory and a run in it for each seed; nothing is written if one of them exists.

        The list of seeds is written first, so that `open_runs` can make up for an end in between.

        Raises:
            RunError: if a run exists, or the directory cannot be written.
        """
        for run in (RunDirectory(self.path), *self.runs):
            if run.config_file.exists():
                raise RunError(f"{run.path} holds a run already; choose another run_dir")
        refuse_links(self.path)
        with write_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self.write()
        return [
            RunDirectory.create(run.path, dataclasses.replace(config, seed=seed))
            for run, seed in zip(self.runs, self.seeds, strict=True)
        ]

    def write(self) -> None:
        """Write the list of seeds; the file is whole or absent.

        Raises:
            RunError: if the directory cannot be written.
        """
        settings: dict[str, Any] = {"format": GROUP_FORMAT, "seeds": list(self.seeds), "mode": self.mode}
        with write_errors(self.path):
            write_json(self.path / GROUP_FILE, settings | ({"devices": self.devices} if self.devices > 1 else {}))

    def first_run(self) -> RunDirectory:
        """Return the run of the first seed that has one.

        Raises:
            RunError: if no seed has a run yet: `create` was killed.
        """
        for run in self.runs:
            if run.config_file.is_file():
                return RunDirectory.open(run.path)
        raise RunError(f"{self.path} was stopped before the run of its first seed was made; start it again")

    def open_runs(self) -> list[RunDirectory]:
        """Open the run of each seed, and create those that are missing because `create` was killed.

        Raises:
            RunError: if no seed has a run yet, or a run cannot be read or created.
        """
        config = self.first_run().config()
        return [
            RunDirectory.open(run.path)
            if run.config_file.is_file()
            else RunDirectory.create(run.path, dataclasses.replace(config, seed=seed))
            for run, seed in zip(self.runs, self.seeds, strict=True)
        ]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds such as `0..7` (the last included), `0,3,5`, or both mixed.

    Raises:
        ConfigurationError: if the text is not such a list, or a seed appears twice.
    """
    return check_seeds(whole_numbers(text, "seed"))


def check_seeds(seeds: Iterable[int]) -> tuple[int, ...]:
    """Validate seeds and return them.

    Raises:
        ConfigurationError: if there are none, one is negative or too large, or one appears twice.
    """
    seeds = tuple(int(seed) for seed in seeds)
    if not 1 <= len(seeds) <= MOST_SEEDS:
        raise ConfigurationError(f"seeds holds {len(seeds)} seeds; it must be 1 to {MOST_SEEDS}")
    for place, seed in enumerate(seeds):
        check_seed(seed)
        if seed in seeds[:place]:
            raise ConfigurationError(f"seeds: {seed} appears twice")
    return seeds


def check_same_settings(runs: Sequence[RunDirectory], configs: Sequence[TrainConfig]) -> None:
    """Validate that runs can be resumed together: their settings differ only in the seed.

    Raises:
        ConfigurationError: naming the setting. One of the runs was resumed alone with another value.
    """
    first: Mapping[str, Any] = configs[0].to_dict()
    for run, config in zip(runs, configs, strict=True):
        for name, value in config.to_dict().items():
            if name != "seed" and value != first[name]:
                raise ConfigurationError(
                    f"{name} is {first[name]} in {runs[0].path} and {value} in {run.path}: set one value for all, or "
                    "resume each run alone"
                )
