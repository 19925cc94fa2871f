"""Exploration or expressivity (the paper's collector and learner): one agent collects, others learn from its data."""

import dataclasses
import itertools
from collections.abc import Sequence

from matplotlib.figure import Figure

from kilolayer.report.style import new_figure
from kilolayer.studies.core.budgets import METRICS, SETTINGS, SHALLOW_AND_DEEP, TASKS, by_depth
from kilolayer.studies.core.figures import (
    draw_curve,
    draw_reference,
    finish_curves,
    having,
    shades_of,
    values_of,
    with_caption,
    with_legend,
)
from kilolayer.studies.core.study import Case, Label, Outcome, Scope, Study

ITSELF = "itself"
"""The label of an agent that collects its own data: one of the depth study's, whose runs serve here too."""


def cases(scope: Scope) -> list[Case]:
    """Return a shallow and a deep learner, each with its own data and with those of a shallow and a deep collector."""
    depths = SHALLOW_AND_DEEP if scope.size == "cpu" else (4, 32)
    alone = [
        dataclasses.replace(case, labels=_labels(case.labels["task"], ITSELF, case.labels["depth"]))
        for case in by_depth(scope, depths)
    ]
    looking_on = [
        scope.case(_labels(task, collector, learner), task, collector_depth=collector, depth=learner)
        for task in scope.tasks
        for collector in depths
        for learner in depths
    ]
    return alone + looking_on


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw a panel for each collector, a row for each task and metric: a curve for each learner, and dashed what
    an agent of the same depth reaches on its own data.
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
                draw_curve(axes, own, metric, label=f"learner of depth {depth}", color=color)
                alone = having(outcomes, task=task, collector=ITSELF, learner=depth)
                if collector != ITSELF:
                    draw_reference(axes, alone, metric, label=f"depth {depth} on its own data", color=color)
            data = "each on its own data" if collector == ITSELF else f"data of depth {collector}"
            finish_curves(axes, f"{task}, {data}", metric)
            if axes is not line[0]:
                axes.set_ylabel("")
    with_legend(figure, grid[0, 0])
    return with_caption(
        figure, outcomes, "Learners on data that another collects, and dashed on their own; mean, standard error, seeds"
    )


def _labels(task: Label, collector: Label, learner: Label) -> dict[str, Label]:
    return {"task": task, "collector": collector, "learner": learner}


COLLECTOR = Study(
    name="collector",
    question="Does depth help by better exploration, or by seeing more in the same data?",
    tasks=TASKS,
    settings=SETTINGS,
    cases=cases,
    metrics=METRICS,
    draw=draw,
)
