"""How many gradient steps does a round of collecting need, in the same time?"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from kilolayer.report.style import new_figure, tidy
from kilolayer.runs import default_config
from kilolayer.studies.core.budgets import METRICS, SETTINGS, TIME_AT_GOAL
from kilolayer.studies.core.figures import (
    draw_mean_curve,
    draw_over_seconds,
    finish_curves,
    having,
    metric_name,
    shades_of,
    values_of,
    with_caption,
    with_legend,
)
from kilolayer.studies.core.registry import register_study
from kilolayer.studies.core.study import Case, Outcome, Scope, Study

PARTS: Mapping[int, float] = {1: 1.0, 2: 1.6, 4: 2.4, 8: 3.2}
"""Env steps of a case in those of its size, by the part of the gradient steps that it takes: where learning is most of
the time, cases then take about as long."""

METHODS: Mapping[str, Mapping[str, Any]] = {
    "crl": {"agent": "crl"},
    "survival": {"agent": "survival", "survival": {"action_chunk": 2}},
}


def cases(scope: Scope) -> list[Case]:
    """Return for each task and method the gradient steps of its preset, a half, a quarter and an eighth of them."""
    found = []
    # Env steps that the user sets are those of the cases with all gradient steps.
    others = {name: value for name, value in scope.changes.items() if name != "total_env_steps"}
    own = dataclasses.replace(scope, changes=others)
    for task in scope.tasks:
        for method, settings in METHODS.items():
            plain = default_config(task, **{**scope.settings, **scope.changes, **settings})
            for part, longer in PARTS.items():
                gradient_steps = max(1, plain.gradient_steps_per_unroll // part)
                found.append(
                    own.case(
                        {"task": task, "method": method, "gradient_steps": gradient_steps},
                        task,
                        gradient_steps_per_unroll=gradient_steps,
                        total_env_steps=round(longer * plain.total_env_steps),
                        **settings,
                    )
                )
    return found


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw a row for each task and method: time at the goal over env steps, and over seconds."""
    rows = [(task, method) for task in values_of(outcomes, "task") for method in values_of(outcomes, "method")]
    figure = new_figure(8.6, 2.9 * len(rows) + 0.3)
    grid = figure.subplots(len(rows), 2, squeeze=False, sharey="row")
    for (over_steps, over_seconds), (task, method) in zip(grid, rows, strict=True):
        own = having(outcomes, task=task, method=method)
        for gradient_steps, color in shades_of(values_of(own, "gradient_steps")).items():
            case, name = having(own, gradient_steps=gradient_steps), f"{gradient_steps} gradient steps a round"
            draw_mean_curve(over_steps, case, TIME_AT_GOAL, label=name, color=color)
            draw_over_seconds(over_seconds, case, TIME_AT_GOAL, label=name, color=color)
        finish_curves(over_steps, f"{task}, {method}", TIME_AT_GOAL)
        tidy(over_seconds, f"{task}, {method}", "seconds", metric_name(TIME_AT_GOAL))
        over_seconds.set_ylabel("")
    with_legend(figure, grid[0, 0])
    return with_caption(figure, outcomes, "Mean over seeds and its standard error")


UPDATES = register_study(
    Study(
        name="updates",
        question="How many gradient steps does a round of collecting need, in the same time?",
        tasks={"cpu": ("reacher",), "gpu": ("ant_u4_maze", "arm_push_easy"), "paper": ("ant_u4_maze", "arm_push_easy")},
        settings=SETTINGS,
        cases=cases,
        metrics=METRICS,
        draw=draw,
    )
)
