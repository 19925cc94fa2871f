"""The paper's comparison: does depth help contrastive RL, and does it help the others (its Figure 13)?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from kilolayer.agents import AGENTS
from kilolayer.experiments.study import Case, Outcome, Size, Study
from kilolayer.report.style import PALETTE, new_figure, tidy
from kilolayer.training import default_config

METRIC = "eval/success_any"

TASKS: Mapping[Size, tuple[str, ...]] = {
    "cpu": ("point_u_maze", "reacher"),
    "gpu": ("ant_big_maze", "arm_push_easy"),
    "paper": ("humanoid", "ant_big_maze", "arm_push_easy"),
}
DEPTHS: Mapping[Size, tuple[int, ...]] = {"cpu": (4, 16), "gpu": (4, 16), "paper": (4, 8, 16, 32, 64)}
SETTINGS: Mapping[Size, Mapping[str, Any]] = {
    "cpu": {"total_env_steps": 800_000, "width": 64, "num_evals": 10},
    "gpu": {"total_env_steps": 10_000_000, "num_evals": 20},
    "paper": {"variant": "paper"},
}


def cases(size: Size) -> list[Case]:
    """Return every agent for continuous actions, on every task, at every depth, for equally many env steps."""
    agents = [name for name, spec in AGENTS.items() if not spec.discrete]
    return [
        Case(
            {"task": task, "agent": agent, "depth": depth},
            default_config(task, agent=agent, depth=depth, **SETTINGS[size]),
        )
        for task in TASKS[size]
        for agent in agents
        for depth in DEPTHS[size]
    ]


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw a panel for each task and depth, a curve for each agent: mean over seeds, band of one standard error."""
    tasks, depths, agents = (
        list(dict.fromkeys(outcome.case.labels[label] for outcome in outcomes)) for label in ("task", "depth", "agent")
    )
    figure = new_figure(3.6 * len(depths) + 1.6, 2.9 * len(tasks))
    grid = figure.subplots(len(tasks), len(depths), squeeze=False, sharey="row")
    for line, task in zip(grid, tasks, strict=True):
        for axes, depth in zip(line, depths, strict=True):
            for agent, color in zip(agents, PALETTE, strict=False):
                wanted = {"task": task, "agent": agent, "depth": depth}
                _draw_mean(axes, [one for one in outcomes if one.case.labels == wanted], str(agent), color)
            axes.set_ylim(-0.03, 1.03)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            tidy(axes, f"{task}, depth {depth}", "env steps", "success_any" if depth == depths[0] else "")
    seeds = len({outcome.seed for outcome in outcomes})
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    figure.suptitle(f"Share of episodes that reach their goal; mean and standard error of {seeds} seeds", fontsize=9)
    return figure


def _draw_mean(axes: Axes, outcomes: Sequence[Outcome], label: str, color: str) -> None:
    if not outcomes:
        return
    steps = outcomes[0].curve(METRIC)[0]
    values = np.stack([outcome.curve(METRIC)[1] for outcome in outcomes])
    mean = values.mean(axis=0)
    error = values.std(axis=0, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.zeros_like(mean)
    axes.plot(steps, mean, color=color, linewidth=1.5, label=label)
    axes.fill_between(steps, mean - error, mean + error, color=color, alpha=0.18, linewidth=0)


BASELINES = Study(
    name="baselines",
    question="Does depth help contrastive RL, and does it help the other methods?",
    cases=cases,
    seeds=3,
    metrics=(METRIC, "eval/time_at_goal"),
    draw=draw,
)
