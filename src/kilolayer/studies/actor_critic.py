"""Whose depth matters, the actor's or the critic's (Wang et al. 2025, Figure 6)?"""

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kilolayer.report.style import DARK, new_figure, tidy
from kilolayer.studies.core.agents import require_settings
from kilolayer.studies.core.budgets import DEPTHS, METRICS, SETTINGS, TASKS, TIME_AT_GOAL, by_depth
from kilolayer.studies.core.figures import having, metric_name, untrained_mean, values_of, with_caption
from kilolayer.studies.core.registry import register_study
from kilolayer.studies.core.statistics import mean_and_error
from kilolayer.studies.core.study import Case, Outcome, Scope, Size, Study

GRID: Mapping[Size, tuple[int, ...]] = {**DEPTHS, "cpu": (4, 8, 16)}
"""Depths of actor and critic at each size."""

PAPER_GRID = Path(__file__).parent / "paper" / "figure_6.csv"
"""time_at_goal by task and both depths, the numbers in the cells of the paper's Figure 6."""

COLORS = matplotlib.colormaps["viridis"]

Cells = Mapping[tuple[int, int], tuple[float, float]]
"""Mean and standard error by depth of actor and critic."""


def cases(scope: Scope) -> list[Case]:
    """Return every task with every pair of depths of the actor and of the critic.

    Cases with equal depths share their runs with the study `depth`.

    Raises:
        ConfigurationError: if the user sets one of the depths, or the agent has no such settings.
    """
    scope.refuse_changes("*.actor_depth", "*.critic_depth")
    found = []
    for case in by_depth(scope, GRID[scope.size]):
        require_settings(case, ("actor_depth", "critic_depth"))
        for actor in GRID[scope.size]:
            critic = int(case.labels["depth"])
            config = case.config
            if actor != critic:
                own = dataclasses.replace(config.agent_settings, actor_depth=actor)
                config = dataclasses.replace(config, agent_settings=own)
            labels = {"task": case.labels["task"], "actor_depth": actor, "critic_depth": critic}
            found.append(Case(labels, config))
    return found


def paper_cells(task: str) -> Cells:
    """Return the numbers of the paper, whose errors are NaN; empty if the task is not in its figure."""
    with PAPER_GRID.open(newline="") as file:
        return {
            (int(row["actor_depth"]), int(row["critic_depth"])): (float(row["time_at_goal"]), np.nan)
            for row in csv.DictReader(file)
            if row["task"] == task
        }


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw for each task a map of each metric by depth of actor (x) and critic (y), and the paper's map if any."""
    tasks = [str(task) for task in values_of(outcomes, "task")]
    papers = {task: paper for task in tasks if (paper := paper_cells(task))}
    columns = len(METRICS) + bool(papers)
    figure = new_figure(3.4 * columns, 3.2 * len(tasks))
    grid = figure.subplots(len(tasks), columns, squeeze=False)
    for line, task in zip(grid, tasks, strict=True):
        own = having(outcomes, task=task)
        for axes, metric in zip(line, METRICS, strict=False):
            _draw_map(axes, _cells(own, metric), metric)
            _draw_untrained(axes, own, metric)
            tidy(axes, f"{task}:\n{metric_name(metric)}", "actor depth", "critic depth")
        if task in papers:
            _draw_map(line[-1], papers[task], TIME_AT_GOAL)
            tidy(line[-1], f"{task}, paper:\n{metric_name(TIME_AT_GOAL)}", "actor depth", "critic depth")
        elif papers:
            line[-1].set_axis_off()
    what = "Mean and standard error over seeds"
    return with_caption(figure, outcomes, what, untrained="in brackets: untrained actors")


def _cells(outcomes: Sequence[Outcome], metric: str) -> Cells:
    places = {(int(one.case.labels["actor_depth"]), int(one.case.labels["critic_depth"])) for one in outcomes}
    return {
        (actor, critic): mean_and_error(
            [one.score(metric) for one in having(outcomes, actor_depth=actor, critic_depth=critic)]
        )
        for actor, critic in places
    }


def _draw_map(axes: Axes, cells: Cells, metric: str) -> None:
    """Draw cells with their numbers; cells without runs stay empty."""
    actors, critics = (sorted({place[axis] for place in cells}) for axis in (0, 1))
    means = np.array([[cells.get((actor, critic), (np.nan, np.nan))[0] for actor in actors] for critic in critics])
    most = 1.0 if "success" in metric else max(float(np.nanmax(means)), 1e-9)
    axes.imshow(means, origin="lower", cmap=COLORS, vmin=0.0, vmax=most, aspect="auto")
    axes.set_xticks(range(len(actors)), [str(depth) for depth in actors])
    axes.set_yticks(range(len(critics)), [str(depth) for depth in critics])
    axes.tick_params(length=0)
    for (actor, critic), (mean, error) in cells.items():
        x, y = actors.index(actor), critics.index(critic)
        digits = 2 if "success" in metric else 1 if most < 10.0 else 0
        ink = DARK if mean / most > 0.6 else "white"
        raised = 0.0 if np.isnan(error) else 0.1
        axes.text(x, y + raised, f"{mean:.{digits}f}", ha="center", va="center", color=ink, fontsize=10)
        if not np.isnan(error):
            axes.text(x, y - 0.22, f"± {error:.{digits}f}", ha="center", va="center", color=ink, fontsize=7)


def _draw_untrained(axes: Axes, outcomes: Sequence[Outcome], metric: str) -> None:
    """Write below the number of each actor's depth the mean score of such actors before training, if it is known."""
    actors = sorted({int(one.case.labels["actor_depth"]) for one in outcomes})
    levels = [untrained_mean(having(outcomes, actor_depth=actor), metric) for actor in actors]
    if not np.isnan(levels).any():
        digits = 2 if "success" in metric else 0
        axes.set_xticks(
            range(len(actors)),
            [f"{actor}\n({level:.{digits}f})" for actor, level in zip(actors, levels, strict=True)],
        )


ACTOR_CRITIC = register_study(
    Study(
        name="actor_critic",
        question="Whose depth matters, the actor's or the critic's?",
        tasks=TASKS,
        settings=SETTINGS,
        cases=cases,
        metrics=METRICS,
        draw=draw,
    )
)
