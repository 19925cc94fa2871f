"""Does depth help contrastive RL, and does it help other methods (Wang et al. 2025, Figure 13)?"""

import itertools
from collections.abc import Sequence

from matplotlib.figure import Figure

from kilolayer.agents import agent_specs
from kilolayer.report.style import colors_of, new_figure
from kilolayer.studies.core.budgets import METRICS, SETTINGS, SHALLOW_AND_DEEP, TASKS
from kilolayer.studies.core.figures import draw_mean_curve, finish_curves, having, values_of, with_caption, with_legend
from kilolayer.studies.core.registry import register_study
from kilolayer.studies.core.study import Case, Outcome, Scope, Study


def cases(scope: Scope) -> list[Case]:
    """Return every agent for continuous actions on every task at every depth, with equal env steps."""
    depths = (4, 8, 16, 32, 64) if scope.size == "paper" else SHALLOW_AND_DEEP
    return [
        scope.case({"task": task, "agent": agent, "depth": depth}, task, agent=agent, depth=depth)
        for task in scope.tasks
        for agent in [spec.name for spec in agent_specs() if not spec.discrete]
        for depth in depths
    ]


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw a row for each task and metric and a column for each depth, with a curve for each agent."""
    depths, agents = values_of(outcomes, "depth"), values_of(outcomes, "agent")
    rows = list(itertools.product(values_of(outcomes, "task"), METRICS))
    figure = new_figure(4.6 * len(depths) + 1.4, 2.9 * len(rows) + 0.3)
    grid = figure.subplots(len(rows), len(depths), squeeze=False, sharey="row")
    for line, (task, metric) in zip(grid, rows, strict=True):
        for axes, depth in zip(line, depths, strict=True):
            for agent, color in zip(agents, colors_of(len(agents)), strict=True):
                own = having(outcomes, task=task, agent=agent, depth=depth)
                draw_mean_curve(axes, own, metric, label=str(agent), color=color, band=False)
            finish_curves(axes, f"{task}, depth {depth}", metric)
        for axes in line[1:]:
            axes.set_ylabel("")
    with_legend(figure, grid[0, 0])
    return with_caption(
        figure, outcomes, "Every agent with equal env steps; thick lines are means, thin lines are seeds"
    )


BASELINES = register_study(
    Study(
        name="baselines",
        question="Does depth help contrastive RL, and does it help the other methods?",
        tasks={**TASKS, "cpu": ("point_u_maze",), "gpu": ("ant_big_maze", "arm_push_easy")},
        settings=SETTINGS,
        cases=cases,
        metrics=METRICS,
        draw=draw,
    )
)
