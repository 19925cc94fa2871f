"""Exploration or expressivity (Wang et al. 2025, collector and learner): one agent collects, another learns from it."""

import dataclasses
import itertools
from collections.abc import Sequence

from matplotlib.figure import Figure

from kilolayer.report.style import new_figure
from kilolayer.studies.core.budgets import METRICS, SETTINGS, SHALLOW_AND_DEEP, TASKS, by_depth
from kilolayer.studies.core.figures import (
    draw_mean_curve,
    draw_reference,
    finish_curves,
    having,
    shades_of,
    values_of,
    with_caption,
    with_legend,
)
from kilolayer.studies.core.registry import register_study
from kilolayer.studies.core.study import Case, Label, Outcome, Scope, Study

ITSELF = "itself"
"""Label of an agent that collects its own data; its runs are shared with the study `depth`."""


def cases(scope: Scope) -> list[Case]:
    """Return a shallow and a deep learner, each on its own data and on that of a shallow and of a deep collector."""
    depths = SHALLOW_AND_DEEP if scope.size == "cpu" else (4, 32)
    alone = [
        dataclasses.replace(case, labels=_labels(case.labels["task"], ITSELF, case.labels["depth"]))
        for case in by_depth(scope, depths)
    ]
    with_collector = [
        scope.case(_labels(task, collector, learner), task, collector_depth=collector, depth=learner)
        for task in scope.tasks
        for collector in depths
        for learner in depths
    ]
    return alone + with_collector


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw a panel for each collector and a row for each task and metric, with a curve for each learner. Dashed curves
    are agents of the same depth on their own data.
    """
    learners = shades_of(values_of(outcomes, "learner"))
    collectors = [one for one in values_of(outcomes, "collector") if one != ITSELF] or [ITSELF]
    rows = list(itertools.product(values_of(outcomes, "task"), METRICS))
    figure = new_figure(4.2 * len(collectors) + 1.9, 2.8 * len(rows) + 0.4)
    grid = figure.subplots(len(rows), len(collectors), squeeze=False, sharey="row")
    for line, (task, metric) in zip(grid, rows, strict=True):
        for axes, collector in zip(line, collectors, strict=True):
            for depth, color in learners.items():
                own = having(outcomes, task=task, collector=collector, learner=depth)
                draw_mean_curve(axes, own, metric, label=f"learner of depth {depth}", color=color)
                alone = having(outcomes, task=task, collector=ITSELF, learner=depth)
                if collector != ITSELF:
                    draw_reference(axes, alone, metric, label=f"depth {depth} on its own data", color=color)
            data = "each on its own data" if collector == ITSELF else f"data of depth {collector}"
            finish_curves(axes, f"{task}, {data}", metric)
            if axes is not line[0]:
                axes.set_ylabel("")
    with_legend(figure, grid[0, 0])
    return with_caption(
        figure, outcomes, "Learners on data of a collector, and dashed on their own data; mean, standard error, seeds"
    )


def _labels(task: Label, collector: Label, learner: Label) -> dict[str, Label]:
    return {"task": task, "collector": collector, "learner": learner}


COLLECTOR = register_study(
    Study(
        name="collector",
        question="Does depth help by better exploration, or by seeing more in the same data?",
        tasks=TASKS,
        settings=SETTINGS,
        cases=cases,
        metrics=METRICS,
        draw=draw,
    )
)
