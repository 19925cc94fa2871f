"""What do the methods that came after the paper reach, by env steps and by seconds?"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from kilolayer.report.style import colors_of, new_figure, tidy
from kilolayer.studies.core.budgets import METRICS, SETTINGS, SHALLOW_AND_DEEP, TIME_AT_GOAL
from kilolayer.studies.core.figures import (
    draw_mean_curve,
    draw_over_seconds,
    finish_curves,
    having,
    metric_name,
    values_of,
    with_caption,
    with_legend,
)
from kilolayer.studies.core.registry import register_study
from kilolayer.studies.core.study import Case, Outcome, Scope, Study

METHODS: Mapping[str, Mapping[str, Any]] = {
    "crl": {"agent": "crl"},
    "crl, chunk 3": {"agent": "crl", "crl": {"action_chunk": 3}},
    "crl, two critics": {"agent": "crl", "crl": {"critics": 2}},
    "srl": {"agent": "srl"},
    "survival": {"agent": "survival"},
    "survival, chunk 2": {"agent": "survival", "survival": {"action_chunk": 2}},
}
"""Settings of each method, by its name in the tables."""


def cases(scope: Scope) -> list[Case]:
    """Return every method on every task at both depths, with equal env steps."""
    return [
        scope.case({"task": task, "method": method, "depth": depth}, task, depth=depth, **settings)
        for task in scope.tasks
        for method, settings in METHODS.items()
        for depth in SHALLOW_AND_DEEP
    ]


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw a row for each task: a column for each depth over env steps, and one for each over seconds."""
    depths, methods = values_of(outcomes, "depth"), values_of(outcomes, "method")
    tasks = [str(task) for task in values_of(outcomes, "task")]
    figure = new_figure(3.6 * 2 * len(depths) + 1.4, 2.9 * len(tasks) + 0.3)
    grid = figure.subplots(len(tasks), 2 * len(depths), squeeze=False, sharey="row")
    for line, task in zip(grid, tasks, strict=True):
        for place, depth in enumerate(depths):
            over_steps, over_seconds = line[place], line[len(depths) + place]
            for method, color in zip(methods, colors_of(len(methods)), strict=True):
                own = having(outcomes, task=task, method=method, depth=depth)
                draw_mean_curve(over_steps, own, TIME_AT_GOAL, label=str(method), color=color, band=False)
                draw_over_seconds(over_seconds, own, TIME_AT_GOAL, label=str(method), color=color)
            finish_curves(over_steps, f"{task}, depth {depth}", TIME_AT_GOAL)
            tidy(over_seconds, f"{task}, depth {depth}", "seconds", metric_name(TIME_AT_GOAL))
        for axes in line[1:]:
            axes.set_ylabel("")
    with_legend(figure, grid[0, 0])
    return with_caption(figure, outcomes, "Every method with equal env steps; thick lines are means")


FRONTIER = register_study(
    Study(
        name="frontier",
        question="What do the methods that came after the paper reach, by env steps and by seconds?",
        tasks={
            "cpu": ("reacher", "point_u_maze", "arm_reach"),
            "gpu": ("ant_u4_maze", "humanoid"),
            "paper": ("ant_u4_maze", "ant_big_maze", "humanoid", "humanoid_u_maze", "arm_push_easy"),
        },
        settings=SETTINGS,
        cases=cases,
        metrics=METRICS,
        draw=draw,
    )
)
