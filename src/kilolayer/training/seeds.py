"""Several seeds of one configuration side by side, each an ordinary run: `DIR/seed-0`, `DIR/seed-1`, ...

`DIR/seeds.json` says which seeds there are and how they are moved, so that all go on together as if never stopped.
"""

import dataclasses
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Literal, get_args

import jax

from kilolayer.compilation_cache import enable_compilation_cache
from kilolayer.errors import ConfigurationError, RunError
from kilolayer.runs.config import TrainConfig
from kilolayer.runs.run_directory import GROUP_FILE, RunDirectory, default_path, write_errors, write_json
from kilolayer.runs.sinks import require_extras
from kilolayer.training.population import SeedsMode
from kilolayer.training.seed_run import Member
from kilolayer.training.setup import Setup
from kilolayer.training.trainer import Trainer, TrainResult, config_to_begin_with, open_run

GROUP_FORMAT = 1
"""Grows when a seeds.json of this version would be misread by the version before."""

LEAST_KEPT = 2
"""Checkpoints that each seed keeps at least: one may have its next while another, stopped in that moment, has not."""

MOST_SEEDS = 1024
"""Side by side: a slip of the keyboard is not to make a million directories."""

SeedsModeChoice = Literal["auto", "threads", "vmap"]


@dataclasses.dataclass(frozen=True)
class SeedGroup:
    """A directory that holds a run for each of several seeds."""

    path: Path
    seeds: tuple[int, ...]
    mode: SeedsMode

    @property
    def runs(self) -> list[RunDirectory]:
        """The run of each seed."""
        return [RunDirectory(self.path / f"seed-{seed}") for seed in self.seeds]

    @staticmethod
    def is_at(path: str | os.PathLike) -> bool:
        """Say whether a directory is one of several seeds."""
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
            return cls(Path(path), _checked(seeds), mode)
        except OSError as error:
            raise RunError(f"{path} holds no runs of several seeds: {file.name}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{file} does not say which seeds there are: {type(error).__name__}: {error}") from error

    def create(self, config: TrainConfig) -> list[RunDirectory]:
        """Make the directory and a run in it for each seed; nothing is written if one of them is there already.

        Raises:
            RunError: if a run is there already, or the directory cannot be written.
        """
        for run in (RunDirectory(self.path), *self.runs):
            if run.config_file.exists():
                raise RunError(f"{run.path} holds a run already; choose another --run-dir")
        for run, seed in zip(self.runs, self.seeds, strict=True):
            RunDirectory.create(run.path, dataclasses.replace(config, seed=seed))
        with write_errors(self.path):
            settings = {"format": GROUP_FORMAT, "seeds": list(self.seeds), "mode": self.mode}
            write_json(self.path / GROUP_FILE, settings)
        return self.runs


def train_seeds(
    env: str | None = None,
    *,
    seeds: Iterable[int] | str | None = None,
    run_dir: str | os.PathLike | None = None,
    resume: str | os.PathLike | None = None,
    config: TrainConfig | None = None,
    checkpoint: int | None = None,
    mode: SeedsModeChoice = "auto",
    progress: bool = True,
    **settings: Any,
) -> list[TrainResult]:
    """Train an agent with each of several seeds side by side, or go on with runs that began so.

    Every seed has a run directory of its own, `run_dir/seed-0` and so on, that can be evaluated, reported and resumed
    alone as any other. All take each training step together, and have their states in memory at the same time.

    Args:
        env: as for `train`.
        seeds: such as `range(8)`, or text: `0..7`, `0,3,5`.
        run_dir: holds the run directories; None takes a fresh directory under `runs/`.
        resume: such a directory to go on with, from the latest checkpoint that all seeds have.
        config: as for `train`; its seed plays no part.
        checkpoint: as for `train`; all seeds must have it.
        mode: `threads`, `vmap` (see `SeedsMode`), or `auto`: see `choose_mode`. Runs go on by what they began with.
        progress: show one line of progress for all on standard error.
        settings: as for `train`.

    Returns:
        For each seed where its run is and how it ended.

    Raises:
        ConfigurationError: for seeds or settings that cannot be.
        RunError: if a directory cannot be written, or a run not be read.
        TrainingError: if a number of any seed is not finite or a save fails. All seeds stop; their checkpoints before
            are whole, and the others can go on alone.
    """
    if resume is not None:
        if env or seeds or config or run_dir or mode != "auto":
            raise ConfigurationError("resume takes env, seeds, mode, config and run_dir from the runs; leave them out")
        group = SeedGroup.open(resume)
        runs, configs = zip(*(open_run(run.path, settings) for run in group.runs), strict=True)
        _refuse_differences(runs, configs)
        config = configs[0]
    else:
        if "seed" in settings:
            raise ConfigurationError(f"seed={settings['seed']} and seeds exclude each other; leave seed out")
        if seeds is None:
            raise ConfigurationError("seeds is missing; give such as range(8) or '0..7'")
        chosen = parse_seeds(seeds) if isinstance(seeds, str) else _checked(seeds)
        config = config_to_begin_with(env, config, settings)
        if checkpoint is not None:
            raise ConfigurationError(f"checkpoint={checkpoint} needs resume")
        group = SeedGroup(Path(run_dir or default_path(config, "seeds")), chosen, choose_mode(mode))
    enable_compilation_cache()
    setup = Setup.build(config)
    require_extras(config)
    if resume is None:
        runs = tuple(group.create(config))
    with ExitStack() as stack:
        members = []
        for run, seed in zip(runs, group.seeds, strict=True):
            stack.enter_context(run.lock())
            own = dataclasses.replace(setup, config=dataclasses.replace(config, seed=seed))
            members.append(stack.enter_context(closing(Member(run, own, least_kept=LEAST_KEPT))))
        return Trainer(members, group.mode, checkpoint=checkpoint, resumed=resume is not None, show=progress).train()


def choose_mode(mode: SeedsModeChoice = "auto") -> SeedsMode:
    """Return what moves several seeds faster here, for `auto`: threads on a CPU, and vmap elsewhere.

    Raises:
        ConfigurationError: for an unknown mode.
    """
    if mode not in get_args(SeedsModeChoice):
        raise ConfigurationError(f"mode={mode!r} is unknown; choose one of {', '.join(get_args(SeedsModeChoice))}")
    if mode != "auto":
        return mode
    return "threads" if jax.default_backend() == "cpu" else "vmap"


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds such as `0..7` (the last included), `0,3,5`, or both mixed.

    Raises:
        ConfigurationError: if it is no such list, or a seed comes twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,18})\s*(?:\.\.\s*([0-9]{1,18})\s*)?", part)
        if match is None:
            raise ConfigurationError(f"seeds={text!r}: {part.strip()!r} is no seed; write such as 0..7 or 0,3,5")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ConfigurationError(f"seeds={text!r}: {part.strip()} runs backwards; write {last}..{first}")
        if last - first >= MOST_SEEDS:
            raise ConfigurationError(f"seeds={text!r}: {last - first + 1} seeds are too many; at most {MOST_SEEDS}")
        seeds.extend(range(first, last + 1))
    return _checked(seeds)


def _checked(seeds: Iterable[int]) -> tuple[int, ...]:
    """Return seeds that can be.

    Raises:
        ConfigurationError: if there are none, one is negative, or one comes twice.
    """
    seeds = tuple(int(seed) for seed in seeds)
    if not 1 <= len(seeds) <= MOST_SEEDS:
        raise ConfigurationError(f"seeds holds {len(seeds)} seeds; it must be 1 to {MOST_SEEDS}")
    for place, seed in enumerate(seeds):
        if seed < 0:
            raise ConfigurationError(f"seeds: {seed} must be at least 0")
        if seed in seeds[:place]:
            raise ConfigurationError(f"seeds: {seed} comes twice")
    return seeds


def _refuse_differences(runs: Sequence[RunDirectory], configs: Sequence[TrainConfig]) -> None:
    """Refuse runs that cannot go on together, because one went on alone with other settings.

    Raises:
        ConfigurationError: naming the setting.
    """
    first: Mapping[str, Any] = configs[0].to_dict()
    for run, config in zip(runs, configs, strict=True):
        for name, value in config.to_dict().items():
            if name != "seed" and value != first[name]:
                raise ConfigurationError(
                    f"{name} is {first[name]} in {runs[0].path} and {value} in {run.path}: give one for all, or "
                    "--resume each run alone"
                )
