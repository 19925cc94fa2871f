"""Which parts does learning with deep networks need? Each case removes or changes one of them.

LayerNorm, swish and residual connections: Wang et al. 2025, Figure 5 and the authors' reply to reviewers. Energies and
losses: JaxGCRL (Bortkiewicz et al. 2025).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kilolayer.nn import ResidualArchitecture
from kilolayer.report.style import DARK, GREY, PALETTE, new_figure, tidy
from kilolayer.runs import TrainConfig
from kilolayer.runs.defaults import deep_merge
from kilolayer.studies.core.budgets import METRICS, SETTINGS, TASKS, by_depth
from kilolayer.studies.core.figures import draw_bars, having, interval_of, metric_name, values_of, with_caption
from kilolayer.studies.core.registry import register_study
from kilolayer.studies.core.results import by_case
from kilolayer.studies.core.statistics import interquartile_mean, interval_or_range
from kilolayer.studies.core.study import Case, Label, Outcome, Scope, Size, Study

BASE_DEPTH: Mapping[Size, int] = {"cpu": 16, "gpu": 16, "paper": 32}
"""Depth of all cases except one; the user can change it."""

BASE = "base"
"""The label of the unchanged case."""


@dataclasses.dataclass(frozen=True)
class Change:
    """One difference from the base."""

    what: str
    """The part that changes; the figure draws its changes together."""
    to: str
    """Its new form."""
    settings: Mapping[str, Any]
    """Fields of `TrainConfig`; of a block, only the fields that change."""
    at_cpu: bool = True
    """Whether the smallest size includes it."""

    def apply(self, config: TrainConfig) -> TrainConfig:
        """Return the configuration with this change.

        Raises:
            ConfigurationError: if the configuration does not allow it.
        """
        merged = config.to_dict()
        deep_merge(self.settings, into=merged)
        return TrainConfig.from_dict(merged)


def changes_of(base: TrainConfig) -> list[Change]:
    """Return all changes of the base, each of one part. A change to what the base already has is left out."""
    architecture = base.architecture
    assert isinstance(architecture, ResidualArchitecture)
    is_scaled = architecture.branch_factor(architecture.num_blocks(base.depth)) != 1.0
    scaling = "none" if is_scaled else "inverse_sqrt"
    changes = (
        Change("depth", "4", {"depth": 4}),
        Change("normalization", "none", {"architecture": {"normalization": "none"}}),
        Change("normalization", "rms", {"architecture": {"normalization": "rms"}}, at_cpu=False),
        Change("activation", "relu", {"architecture": {"activation": "relu"}}),
        Change("activation", "gelu", {"architecture": {"activation": "gelu"}}, at_cpu=False),
        Change("residual", "none", {"architecture": {"residual": False}}),
        Change("residual_scaling", scaling, {"architecture": {"residual_scaling": scaling}}),
        Change("energy", "l2", {"crl": {"energy": "l2"}}),
        Change("energy", "squared_l2", {"crl": {"energy": "squared_l2"}}, at_cpu=False),
        Change("energy", "dot", {"crl": {"energy": "dot"}}),
        Change("energy", "cosine", {"crl": {"energy": "cosine"}}),
        Change("loss", "forward", {"crl": {"loss": "infonce_forward"}}),
        Change("loss", "backward", {"crl": {"loss": "infonce_backward"}}, at_cpu=False),
        Change("loss", "symmetric", {"crl": {"loss": "infonce_symmetric"}}),
        Change("loss", "binary_nce", {"crl": {"loss": "binary_nce"}}),
        Change("logsumexp_penalty", "none", {"crl": {"logsumexp_penalty": 0.0}}, at_cpu=False),
        Change("actor_goals", "resampled", {"crl": {"actor_goals": "resampled"}}, at_cpu=False),
        Change("entropy", "higher", {"crl": {"target_entropy": 0.0}}),
        Change("entropy", "lower", {"crl": {"target_entropy": -1.0}}, at_cpu=False),
        # No policy has an entropy below -17, because its spread and the tanh are bounded: alpha falls at once.
        Change("entropy", "none", {"crl": {"target_entropy": -20.0, "alpha_learning_rate": 0.1}}),
    )
    return [change for change in changes if change.apply(base) != base]


def cases(scope: Scope) -> list[Case]:
    """Return the base, then each change of it, on every task. Base and depth 4 share their runs with the study `depth`.

    Raises:
        ConfigurationError: if the networks grow, or the agent does not have the settings that change.
    """
    found = []
    for base in by_depth(scope, (scope.changes.get("depth", BASE_DEPTH[scope.size]),)):
        labels: dict[str, Label] = {"task": base.labels["task"]}
        found.append(Case(labels | {"changed": BASE, "to": f"depth {base.config.depth}"}, base.config))
        found += [
            Case(labels | {"changed": change.what, "to": change.to}, change.apply(base.config))
            for change in changes_of(base.config)
            if change.at_cpu or scope.size != "cpu"
        ]
    return found


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw for each task and metric a bar for each change, and the base as a line with its interval."""
    tasks = values_of(outcomes, "task")
    most = max(len(_groups(having(outcomes, task=task))) for task in tasks)
    figure = new_figure(4.2 * len(METRICS) + 1.2, (1.2 + 0.27 * most) * len(tasks))
    grid = figure.subplots(len(tasks), len(METRICS), squeeze=False)
    for line, task in zip(grid, tasks, strict=True):
        for axes, metric in zip(line, METRICS, strict=True):
            _draw_task(axes, having(outcomes, task=task), metric)
            axes.tick_params(labelleft=axes is line[0])
            tidy(axes, str(task), metric_name(metric))
    return with_caption(
        figure,
        outcomes,
        f"Bars: interquartile mean, {interval_of(outcomes)}, and seeds; dashed line and band: the base",
    )


def _groups(outcomes: Sequence[Outcome]) -> dict[tuple[Label, Label], list[Outcome]]:
    """Return the outcomes by part and new form, in the order of the grid."""
    return {(own[0].case.labels["changed"], own[0].case.labels["to"]): own for own in by_case(outcomes)}


def _draw_task(axes: Axes, outcomes: Sequence[Outcome], metric: str) -> None:
    groups = _groups(outcomes)
    names = {key: ": ".join(map(str, key)).replace("_", " ") for key in groups}
    changed = [what for what in values_of(outcomes, "changed") if what != BASE]
    hues = dict(zip(changed, (hue for hue in PALETTE if hue != GREY), strict=False)) | {BASE: GREY}
    draw_bars(
        axes,
        {names[key]: own for key, own in groups.items()},
        metric,
        colors={names[key]: hues[key[0]] for key in groups},
    )
    for place, (above, below) in enumerate(zip(list(groups)[:-1], list(groups)[1:], strict=True)):
        if above[0] != below[0]:
            axes.axhline(place + 0.5, color=GREY, linewidth=0.4, alpha=0.6)
    if base := having(outcomes, changed=BASE):
        scores = np.array([one.score(metric) for one in base])
        low, high = interval_or_range(scores)
        axes.axvspan(low, high, color=GREY, alpha=0.18, linewidth=0, zorder=0)
        axes.axvline(float(interquartile_mean(scores[:, None])), color=DARK, linewidth=1.1, linestyle="--", zorder=1)


ABLATION = register_study(
    Study(
        name="ablation",
        question="What does learning with deep networks need?",
        tasks={**TASKS, "paper": ("humanoid",)},
        settings=SETTINGS,
        cases=cases,
        metrics=METRICS,
        draw=draw,
    )
)
