"""What does an agent reach, and how soon, with deeper networks (Wang et al. 2025, Figure 1)?"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kilolayer.report.style import new_figure, tidy
from kilolayer.studies.core.budgets import METRICS, SETTINGS, TASKS, TIME_AT_GOAL, by_depth
from kilolayer.studies.core.figures import (
    draw_mean_curve,
    draw_scores_over,
    finish_curves,
    having,
    metric_name,
    shades_of,
    values_of,
    with_caption,
    with_legend,
)
from kilolayer.studies.core.registry import register_study
from kilolayer.studies.core.results import by_case
from kilolayer.studies.core.statistics import mean_and_error
from kilolayer.studies.core.study import Label, Outcome, Study

PAPER_CURVES = Path(__file__).parent / "paper" / "figure_1.csv"
"""time_at_goal over env steps by task and depth, read from the paper's Figure 1."""


def paper_curves(task: str) -> Mapping[int, np.ndarray]:
    """Return the curves of the paper: for each depth env steps and time_at_goal (2 x points); empty for other tasks."""
    found: dict[int, list[tuple[float, float]]] = {}
    with PAPER_CURVES.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["task"] == task:
                point = (1e6 * float(row["env_steps_M"]), float(row["time_at_goal"]))
                found.setdefault(int(row["depth"]), []).append(point)
    return {depth: np.array(points).T for depth, points in found.items()}


def largest_jump(outcomes: Sequence[Outcome], metric: str) -> tuple[Label, float]:
    """Return the depth with the largest gain over the depth before, and that gain; of a metric's mean over seeds."""
    cases = sorted(by_case(outcomes), key=lambda own: int(own[0].case.labels["depth"]))
    means = [mean_and_error([one.score(metric) for one in own])[0] for own in cases]
    gains = np.diff(means)
    if not gains.size:
        return cases[0][0].case.labels["depth"], 0.0
    place = int(np.argmax(gains))
    return cases[place + 1][0].case.labels["depth"], float(gains[place])


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw for each task curves by depth, with the paper's curves if it has them, and both scores over depth."""
    tasks = [str(task) for task in values_of(outcomes, "task")]
    figure = new_figure(3.7 * (1 + len(METRICS)) + 0.9, 3.1 * len(tasks))
    grid = figure.subplots(len(tasks), 1 + len(METRICS), squeeze=False)
    for line, task in zip(grid, tasks, strict=True):
        own = having(outcomes, task=task)
        _draw_curves(line[0], own, task)
        for axes, metric in zip(line[1:], METRICS, strict=True):
            draw_scores_over(axes, own, "depth", metric)
            depth, gain = largest_jump(own, metric)
            jump = f"largest jump at depth {depth}" if gain > 0.0 else "no jump"
            tidy(axes, f"{task}, {jump}", "depth", metric_name(metric))
    with_legend(figure, grid[0, 0])
    return with_caption(figure, outcomes, "Mean over seeds and its standard error; thin lines and dots are seeds")


def _draw_curves(axes: Axes, outcomes: Sequence[Outcome], task: str) -> None:
    colors = shades_of(values_of(outcomes, "depth"))
    paper = paper_curves(task)
    for depth, color in colors.items():
        own = having(outcomes, depth=depth)
        if int(depth) in paper:
            axes.plot(*paper[int(depth)], color=color, linewidth=1.0, linestyle="--", label=f"depth {depth}, paper")
        draw_mean_curve(axes, own, TIME_AT_GOAL, label=f"depth {depth}", color=color)
    axes.set_xlim(0.0, max(outcome.curve(TIME_AT_GOAL)[0][-1] for outcome in outcomes))
    finish_curves(axes, task, TIME_AT_GOAL)


DEPTH = register_study(
    Study(
        name="depth",
        question="What does an agent reach, the deeper its networks are?",
        tasks=TASKS,
        settings=SETTINGS,
        cases=by_depth,
        metrics=METRICS,
        draw=draw,
    )
)
