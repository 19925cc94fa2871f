"""Does a larger batch help, and only with deep networks (Wang et al. 2025, on batch size)?"""

import dataclasses
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from kilolayer.report.style import PALETTE, new_figure, tidy
from kilolayer.studies.core.budgets import METRICS, SETTINGS, SHALLOW_AND_DEEP, TASKS, TIME_AT_GOAL, by_depth
from kilolayer.studies.core.figures import (
    draw_mean_curve,
    draw_scores_over,
    finish_curves,
    having,
    shades_of,
    values_of,
    with_caption,
    with_legend,
)
from kilolayer.studies.core.registry import register_study
from kilolayer.studies.core.study import Case, Outcome, Scope, Size, Study

BATCHES: Mapping[Size, tuple[int, ...]] = {
    "cpu": (64, 256, 1024),
    "gpu": (128, 512, 2048),
    "paper": (128, 256, 512, 1024, 2048),
}

DEPTHS: Mapping[Size, tuple[int, ...]] = {"cpu": SHALLOW_AND_DEEP, "gpu": SHALLOW_AND_DEEP, "paper": (4, 8, 16, 64)}


def cases(scope: Scope) -> list[Case]:
    """Return every task at every depth with every batch size. Env steps and gradient steps are equal in all cases.

    Raises:
        ConfigurationError: if the user sets the depth or the batch size.
    """
    scope.refuse_changes("batch_size")
    return [
        Case({**case.labels, "batch_size": size}, dataclasses.replace(case.config, batch_size=size))
        for case in by_depth(scope, DEPTHS[scope.size])
        for size in BATCHES[scope.size]
    ]


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw for each task a panel for each depth with curves by batch size, and the scores over the batch size."""
    tasks, depths = values_of(outcomes, "task"), values_of(outcomes, "depth")
    batches = sorted(map(int, values_of(outcomes, "batch_size")))
    figure = new_figure(3.5 * (len(depths) + 1) + 1.2, 3.0 * len(tasks))
    grid = figure.subplots(len(tasks), len(depths) + 1, squeeze=False, sharey="row")
    colors = shades_of(batches)
    for line, task in zip(grid, tasks, strict=True):
        for axes, depth in zip(line, depths, strict=False):
            for size in batches:
                own = having(outcomes, task=task, depth=depth, batch_size=size)
                draw_mean_curve(axes, own, TIME_AT_GOAL, label=f"batch {size}", color=colors[size])
            finish_curves(axes, f"{task}, depth {depth}", TIME_AT_GOAL)
        for depth, color in zip(depths, PALETTE, strict=False):
            if own := having(outcomes, task=task, depth=depth):
                draw_scores_over(line[-1], own, "batch_size", TIME_AT_GOAL, name=f"depth {depth}", color=color)
        line[-1].set_xticks(batches, [str(size) for size in batches])
        line[-1].legend(fontsize=8, frameon=False)
        tidy(line[-1], str(task), "batch size")
        for axes in line[1:]:
            axes.set_ylabel("")
    with_legend(figure, grid[0, 0])
    return with_caption(
        figure, outcomes, "Equal gradient steps; mean and standard error; thin lines and dots are seeds"
    )


BATCH = register_study(
    Study(
        name="batch",
        question="Does a larger batch help, and does that take depth?",
        tasks={**TASKS, "paper": ("humanoid",)},
        settings=SETTINGS,
        cases=cases,
        metrics=METRICS,
        draw=draw,
    )
)
