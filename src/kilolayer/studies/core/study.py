"""What a study is: a grid of configurations, each trained with several seeds, a metric, and a figure."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from kilolayer.errors import ConfigurationError
from kilolayer.nn import torso_spec
from kilolayer.runs import RunDirectory, SeedGroup, TrainConfig, default_config
from kilolayer.runs.config import deep_merge

Size = Literal["cpu", "gpu", "paper"]
"""What a study is sized for: 2 CPU cores, one GPU, or the published budget."""

LAST = 5
"""A score is the mean of so many last evaluations, as in the paper."""

RECORDING = ("checkpoint_minutes", "checkpoints_to_keep", "tensorboard", "wandb", "wandb_project")
"""Settings of what is kept of a run: no number in it depends on them, so they set no case apart."""

Label = str | int | float
Row = Mapping[str, Label]


@dataclasses.dataclass(frozen=True)
class Case:
    """A cell of a study's grid."""

    labels: Mapping[str, Label]
    """Where it lies in the grid, such as task, agent and depth."""
    config: TrainConfig
    """Its settings; the seed plays no part."""

    @property
    def name(self) -> str:
        """The labels in one word."""
        return "-".join(str(value) for value in self.labels.values())

    @property
    def directory(self) -> str:
        """A name for its runs that cases with other settings do not have: studies that share a case share its runs.

        Settings that are as the library has them play no part, so that one that is new to the library moves nothing.
        """
        config = self.config
        defaults = TrainConfig(
            agent=config.agent, torso=config.torso, architecture=torso_spec(config.torso).settings()
        ).to_dict()
        names = {"agent": TrainConfig.agent, "torso": TrainConfig.torso}
        set_apart = _unlike(decisive_settings(config), defaults | names)
        digest = hashlib.sha256(json.dumps(set_apart, sort_keys=True).encode()).hexdigest()[:8]
        env = "maze" if "\n" in config.env else config.env
        return f"{env}-{config.agent}-d{config.depth}-{digest}"

    @property
    def settings(self) -> dict[str, Any]:
        """All settings but the seed, as plain data."""
        return {name: value for name, value in self.config.to_dict().items() if name != "seed"}


def decisive_settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that what a run leaves depends on, but for the seed."""
    return {name: value for name, value in config.to_dict().items() if name != "seed" and name not in RECORDING}


def by_full_name(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by names such as depth and crl.energy: those of a block by its name and theirs."""
    whole: dict[str, Any] = {}
    deep_merge(settings, into=whole)
    found: dict[str, Any] = {}
    for name, value in whole.items():
        found |= {f"{name}.{field}": one for field, one in value.items()} if isinstance(value, dict) else {name: value}
    return found


def _unlike(settings: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that others have otherwise; of a block, those of its fields."""
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
    """What is asked of a study: its size, and what a user changed."""

    size: Size
    tasks: tuple[str, ...]
    settings: Mapping[str, Any]
    """Of every case, by the study's size."""
    limits: bool = False
    """Take the depths in too that are there to show how far it goes."""
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of every case that the user asked for, over those of the size."""

    def case(self, labels: Mapping[str, Label], env: str, **settings: Any) -> Case:
        """Return a case of the grid.

        Args:
            labels: where it lies.
            env: its task.
            settings: fields of `TrainConfig` that make the case what it is, over those of the size.

        Raises:
            ConfigurationError: if a user asked for another value of one of these settings, or for one that cannot be.
        """
        self.refuse_changes(**settings)
        merged: dict[str, Any] = {}
        for layer in (self.settings, self.changes, settings):
            deep_merge(layer, into=merged)
        return Case(labels, default_config(env, **merged))

    def refuse_changes(self, *names: str, **settings: Any) -> None:
        """Refuse that a user sets what a study sets itself, or what would undo it.

        Args:
            names: settings that nobody else may set, such as depth, or crl.actor_depth.
            settings: those that may have no other value than this; of a block, the fields that are given.

        Raises:
            ConfigurationError: naming the first of the settings that was changed.
        """
        own = by_full_name(settings)
        for name, value in by_full_name(self.changes).items():
            if name in names or own.get(name, value) != value:
                raise ConfigurationError(
                    f"{name}={value} is what this study sets itself; leave it out (--only takes a part of the cases)"
                )


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a study found in a trained run, besides what training wrote down."""

    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """A number for each metric."""
    rows: Sequence[Row] = ()
    """The data behind the figure, such as a row for each block, or each place of a maze."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one seed of a case came to."""

    case: Case
    seed: int
    run: RunDirectory
    measured: Measured = Measured()

    @cached_property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The rows of its metrics.jsonl."""
        return self.run.metrics()

    @cached_property
    def systems(self) -> Sequence[Mapping[str, Any]]:
        """Hardware and versions, of each start of the run; none if they are not there to read."""
        try:
            return json.loads(self.run.system_file.read_text())
        except (OSError, ValueError):
            return []

    def curve(self, metric: str) -> tuple[Float[np.ndarray, " evaluations"], Float[np.ndarray, " evaluations"]]:
        """Return env steps and values of a metric."""
        known = [row for row in self.rows if row.get(metric) is not None]
        return np.array([row["env_steps"] for row in known], float), np.array([row[metric] for row in known], float)

    def score(self, metric: str) -> float:
        """Return what the study measured by this name, or the mean of the last evaluations."""
        if metric in self.measured.scores:
            return self.measured.scores[metric]
        values = self.curve(metric)[1]
        return float(values[-LAST:].mean()) if values.size else np.nan

    @property
    def seconds(self) -> float:
        """What training took, side by side with the other seeds of its case."""
        return float(self.rows[-1]["perf/seconds"])

    @cached_property
    def seeds_side_by_side(self) -> int:
        """How many seeds shared the machine while this one was trained, itself among them."""
        group = self.run.path.parent
        return len(SeedGroup.open(group).seeds) if SeedGroup.is_at(group) else 1


@dataclasses.dataclass(frozen=True)
class Study:
    """A question, and how it is answered."""

    name: str
    question: str
    """One line for lists and pages."""
    tasks: Mapping[Size, tuple[str, ...]]
    """Where it is asked, at each size."""
    settings: Mapping[Size, Mapping[str, Any]]
    """Of every case, at each size."""
    cases: Callable[[Scope], Sequence[Case]]
    """Returns the grid."""
    metrics: tuple[str, ...]
    """What its table shows, by the names in metrics.jsonl or in what is measured."""
    draw: Callable[[Sequence[Outcome]], Figure]
    """Draws its figure."""
    measure: Callable[[Outcome], Measured] | None = None
    """Looks into a trained run for what training does not write down."""
    seeds: int = 3
    """How many seeds each case is trained with, unless asked otherwise."""

    def grid(
        self, size: Size, *, tasks: Sequence[str] = (), limits: bool = False, changes: Mapping[str, Any] | None = None
    ) -> Sequence[Case]:
        """Return the cases at a size.

        Args:
            size: which.
            tasks: where to ask the question, in place of the study's own tasks.
            limits: take the greatest depths in too.
            changes: settings of every case, over the study's own.

        Raises:
            ConfigurationError: for an unknown task, a setting that cannot be, or one that the study sets itself.
        """
        tasks = tuple(tasks) or self.tasks[size]
        changes = changes or {}
        for name, instead in (("env", "--tasks"), ("seed", "--seeds")):
            if name in changes:
                raise ConfigurationError(f"set: {name} is no setting of a case; give it by {instead}")
        return self.cases(Scope(size, tasks, self.settings[size], limits, changes))
