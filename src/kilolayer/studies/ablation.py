"""What does learning with deep networks need? One thing at a time is taken away or changed.

The paper shows what LayerNorm, swish and the residual connections are worth (its Figure 5, and its authors' reply to
reviewers); the energies and losses are those that JaxGCRL compares (Bortkiewicz et al., 2025).
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
from kilolayer.runs.config import deep_merge
from kilolayer.studies.core.budgets import METRICS, SETTINGS, TASKS, by_depth
from kilolayer.studies.core.figures import draw_bars, having, metric_name, values_of, with_caption
from kilolayer.studies.core.results import by_case
from kilolayer.studies.core.statistics import bootstrap_interval, interquartile_mean
from kilolayer.studies.core.study import Case, Label, Outcome, Scope, Size, Study

BASE_DEPTH: Mapping[Size, int] = {"cpu": 16, "gpu": 16, "paper": 32}
"""Of all cases but one, unless --set says otherwise."""

BASE = "base"
"""What is changed in the base."""


@dataclasses.dataclass(frozen=True)
class Change:
    """One difference from the base."""

    what: str
    """What is changed; the figure keeps its changes together."""
    to: str
    settings: Mapping[str, Any]
    """Of `TrainConfig`; of its blocks, the fields that are changed."""
    at_cpu: bool = True
    """It is among those that the smallest size pays for."""

    def made_to(self, config: TrainConfig) -> TrainConfig:
        """Return the configuration with this change.

        Raises:
            ConfigurationError: if both do not go together.
        """
        merged = config.to_dict()
        deep_merge(self.settings, into=merged)
        return TrainConfig.from_dict(merged)


def changes_of(base: TrainConfig) -> list[Change]:
    """Return all that is changed in the base, one thing at a time; what it has already is left out."""
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
        # No policy gets below -17, by the bounds of its spread and of the tanh: alpha only sinks, and at once.
        Change("entropy", "none", {"crl": {"target_entropy": -20.0, "alpha_learning_rate": 0.1}}),
    )
    return [change for change in changes if change.made_to(base) != base]


def cases(scope: Scope) -> list[Case]:
    """Return the base, then each of its changes, on every task; base and depth 4 are those of the study of depth.

    Raises:
        ConfigurationError: if the networks are to grow, or the agent is another than CRL.
    """
    found = []
    for base in by_depth(scope, (scope.changes.get("depth", BASE_DEPTH[scope.size]),)):
        labels: dict[str, Label] = {"task": base.labels["task"]}
        found.append(Case(labels | {"changed": BASE, "to": f"depth {base.config.depth}"}, base.config))
        found += [
            Case(labels | {"changed": change.what, "to": change.to}, change.made_to(base.config))
            for change in changes_of(base.config)
            if change.at_cpu or scope.size != "cpu"
        ]
    return found


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw for each task and score a bar for each change, and the base as a line with its interval."""
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
        figure, outcomes, "Bars: interquartile mean, 95 % interval, and seeds; dashed line and band: the base"
    )


def _groups(outcomes: Sequence[Outcome]) -> dict[tuple[Label, Label], list[Outcome]]:
    """Return the outcomes by what is changed, and to what, in the order of the grid."""
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
        low, high = bootstrap_interval(scores)
        axes.axvspan(low, high, color=GREY, alpha=0.18, linewidth=0, zorder=0)
        axes.axvline(float(interquartile_mean(scores[:, None])), color=DARK, linewidth=1.1, linestyle="--", zorder=1)


ABLATION = Study(
    name="ablation",
    question="What does learning with deep networks need?",
    tasks={**TASKS, "paper": ("humanoid",)},
    settings=SETTINGS,
    cases=cases,
    metrics=METRICS,
    draw=draw,
)
