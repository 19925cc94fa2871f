"""The parts of a study: a question, a grid of configurations, metrics, and a figure."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from kilolayer.data import ReplayBuffer
from kilolayer.errors import ConfigurationError
from kilolayer.nn import torso_spec
from kilolayer.runs import Clocks, RunDirectory, SeedGroup, TrainConfig, default_config
from kilolayer.runs.defaults import deep_merge

Size = Literal["cpu", "gpu", "paper"]
"""Budget of a study: 2 CPU cores, one GPU, or the published budget."""

LAST = 5
"""The score of a run is the mean of its last five evaluations, as in the paper."""

RECORDING = ("checkpoint_minutes", "checkpoint_every", "checkpoints_to_keep", "tensorboard", "wandb", "wandb_project")
"""Settings of what a run keeps. They change no number, so cases that differ only in them share their runs."""

Label = str | int | float
Row = Mapping[str, Label]


@dataclasses.dataclass(frozen=True)
class Case:
    """A cell of a study's grid."""

    labels: Mapping[str, Label]
    """Its place in the grid, such as task, agent and depth."""
    config: TrainConfig
    """Its settings; the seed is ignored."""

    @property
    def name(self) -> str:
        """The values of the labels, joined with hyphens."""
        return "-".join(str(value) for value in self.labels.values())

    @property
    def directory(self) -> str:
        """The name of the directory of its runs: environment, agent, depth and a digest of the settings.

        Cases with equal settings have the same directory, so studies share their runs. Settings with default values do
        not enter the digest: a new setting in the library renames no directory.
        """
        config = self.config
        defaults = TrainConfig(
            agent=config.agent, torso=config.torso, architecture=torso_spec(config.torso).settings()
        ).to_dict()
        names = {"agent": TrainConfig.agent, "torso": TrainConfig.torso}
        changed = _unlike(decisive_settings(config), defaults | names)
        digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]
        env = "maze" if "\n" in config.env else config.env
        return f"{env}-{config.agent}-d{config.depth}-{digest}"

    @property
    def settings(self) -> dict[str, Any]:
        """All settings except the seed, as plain data."""
        return {name: value for name, value in self.config.to_dict().items() if name != "seed"}


def decisive_settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that the numbers of a run depend on, except the seed."""
    return {name: value for name, value in config.to_dict().items() if name != "seed" and name not in RECORDING}


def by_full_name(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by full name, such as `depth` or `crl.energy` for a field of a block."""
    whole: dict[str, Any] = {}
    deep_merge(settings, into=whole)
    found: dict[str, Any] = {}
    for name, value in whole.items():
        found |= {f"{name}.{field}": one for field, one in value.items()} if isinstance(value, dict) else {name: value}
    return found


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with `block.field` as a dictionary of the block.

    Raises:
        ConfigurationError: if a block is given both whole and by its fields.
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        block, dot, field = name.partition(".")
        if dot and block in settings:
            raise ConfigurationError(f"{block} and {name} exclude each other; give one of them")
        if dot:
            found.setdefault(block, {})[field] = value
        else:
            found[name] = value
    return found


def _unlike(settings: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from others; of a block, only the fields that differ."""
    found = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            value = _unlike(value, others[name])
            if value:
                found[name] = value
        elif value != others[name]:
            found[name] = value
    return found


@dataclasses.dataclass(frozen=True)
class Scope:
    """A request to a study: its size, and the user's changes."""

    size: Size
    tasks: tuple[str, ...]
    settings: Mapping[str, Any]
    """Settings of all cases at this size."""
    limits: bool = False
    """Include the greatest depths."""
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of all cases that the user changed; they override those of the size."""

    def case(self, labels: Mapping[str, Label], env: str, **settings: Any) -> Case:
        """Return a case of the grid.

        Args:
            labels: its place in the grid.
            env: its environment.
            settings: fields of `TrainConfig` that define the case; they override those of the size.

        Raises:
            ConfigurationError: if the user changed one of these settings, or for an invalid setting.
        """
        self.refuse_changes(**settings)
        merged: dict[str, Any] = {}
        for layer in (self.settings, self.changes, settings):
            deep_merge(layer, into=merged)
        return Case(labels, default_config(env, **merged))

    def refuse_changes(self, *names: str, **settings: Any) -> None:
        """Validate that the user leaves the study's own settings alone.

        Args:
            names: settings that the user may not change, such as `depth`, or `*.actor_depth` for those of any agent.
            settings: settings that the user may not change to another value; of a block, only the given fields.

        Raises:
            ConfigurationError: naming the first setting that the user changed.
        """
        own = by_full_name(settings)
        for name, value in by_full_name(self.changes).items():
            differs = own.get(name, value) != value or isinstance(own.get(name, value), bool) != isinstance(value, bool)
            if differs or any(fnmatch(name, pattern) for pattern in names):
                raise ConfigurationError(
                    f"{name}={value}: this study sets {name} itself; leave it out (`only` selects a part of the cases)"
                )


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a study measured in a trained run, in addition to the run's own metrics."""

    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """A number for each metric."""
    rows: Sequence[Row] = ()
    """Data behind the figure, such as a row for each block or each place in a maze."""
    untrained: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """The scores of the networks that the run began with, where they can be measured."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The trained run of one seed of a case."""

    case: Case
    seed: int
    run: RunDirectory
    measured: Measured = Measured()
    last: int = LAST
    """Its score is the mean of so many evaluations at its end."""

    @cached_property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The rows of its metrics.jsonl."""
        return self.run.metrics()

    @cached_property
    def systems(self) -> Sequence[Mapping[str, Any]]:
        """Hardware and versions at each start of the run; empty if the file cannot be read."""
        try:
            return json.loads(self.run.system_file.read_text())
        except (OSError, ValueError, RecursionError):
            return []

    def curve(self, metric: str) -> tuple[Float[np.ndarray, " evaluations"], Float[np.ndarray, " evaluations"]]:
        """Return env steps and values of a metric; gradient steps in a run that collects nothing."""
        known = [row for row in self.rows if row.get(metric) is not None]
        return np.array([Clocks.of_row(row).step for row in known], float), np.array(
            [row[metric] for row in known], float
        )

    def score(self, metric: str) -> float:
        """Return the measured score of this name, else the mean of the last evaluations of a metric; NaN if unknown."""
        if metric in self.measured.scores:
            return self.measured.scores[metric]
        values = self.curve(metric)[1]
        return float(values[-self.last :].mean()) if values.size else np.nan

    def untrained(self, metric: str) -> float:
        """Return what the networks score that the run began with: measured, or in its evaluation before any gradient
        step; NaN if unknown.
        """
        if metric in self.measured.untrained or metric in self.measured.scores:
            return self.measured.untrained.get(metric, np.nan)
        first = self.rows[0] if self.rows else {}
        value = None if Clocks.of_row(first).gradient_steps else first.get(metric)
        return np.nan if value is None else float(value)

    @property
    def finished(self) -> bool:
        """Whether the last evaluation is that of the end of the run, by the settings of its case."""
        return Clocks.of_row(self.rows[-1]).step >= self.case.config.timetable.end.step

    @property
    def seconds(self) -> float:
        """Training time in seconds, side by side with the other seeds of its case."""
        return float(self.rows[-1]["perf/seconds"])

    @cached_property
    def seeds_side_by_side(self) -> int:
        """How many seeds were trained at the same time, this one included."""
        group = self.run.path.parent
        return len(SeedGroup.open(group).seeds) if SeedGroup.is_at(group) else 1


@dataclasses.dataclass(frozen=True)
class Study:
    """A question and the experiment that answers it."""

    name: str
    question: str
    """One line for lists and pages."""
    tasks: Mapping[Size, tuple[str, ...]]
    """Environments at each size."""
    settings: Mapping[Size, Mapping[str, Any]]
    """Settings of all cases at each size."""
    cases: Callable[[Scope], Sequence[Case]]
    """Returns the cases of the grid."""
    metrics: tuple[str, ...]
    """Columns of its table: names in metrics.jsonl, or of measured scores."""
    draw: Callable[[Sequence[Outcome]], Figure]
    """Draws its figure."""
    measure: Callable[[Outcome], Measured] | None = None
    """Measures a trained run; None where the metrics of training suffice."""
    data: Callable[[TrainConfig], ReplayBuffer] | None = None
    """Makes the data that all runs of a case learn from; None where runs collect their own. A function of a module:
    other processes call it too."""
    seeds: int = 3
    """Default number of seeds of each case."""
    last: int = LAST
    """Scores are means of so many evaluations at the end of a run."""
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Plain data to keep in its description, of a study that is made of what there is."""

    def grid(
        self, size: Size, *, tasks: Sequence[str] = (), limits: bool = False, changes: Mapping[str, Any] | None = None
    ) -> Sequence[Case]:
        """Return the cases at a size.

        Args:
            size: the budget.
            tasks: environments in place of the study's own.
            limits: include the greatest depths.
            changes: settings of all cases that override the study's own.

        Raises:
            ConfigurationError: for an unknown task, an invalid setting, or one that the study sets itself.
        """
        tasks = tuple(tasks) or self.tasks[size]
        changes = changes or {}
        for name, instead in (("env", "tasks"), ("seed", "seeds")):
            if name in changes:
                raise ConfigurationError(f"{name} cannot be changed as a setting; choose {instead} instead")
        return self.cases(Scope(size, tasks, self.settings[size], limits, changes))
