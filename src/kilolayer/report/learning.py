"""Learning curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from kilolayer.report.style import BLUE, new_figure, tidy

PANELS = {
    "eval/success_any": "success_any: reached the goal",
    "eval/time_at_goal": "time_at_goal: steps at the goal",
    "eval/success_final": "success_final: at the goal at the end",
    "train/critic_loss": "critic_loss",
    "train/categorical_accuracy": "categorical_accuracy (critic)",
    "train/entropy": "entropy (policy, nats)",
    "train/actor_loss": "actor_loss",
    "train/action_error": "action_error: distance from what is imitated",
}
"""Metrics and their titles. A figure shows the first six that the run has: agents differ in their metrics."""


def draw_curve(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str, title: str) -> None:
    """Draw a metric over env steps, with a band of one standard error if the metric has one."""
    known = [row for row in rows if row.get(name) is not None]
    steps = np.array([row["env_steps"] for row in known])
    values = np.array([row[name] for row in known], float)
    axes.plot(steps, values, color=BLUE, linewidth=1.6, marker="o", markersize=3)
    if known and f"{name}_stderr" in known[0]:
        error = np.array([row[f"{name}_stderr"] for row in known], float)
        axes.fill_between(steps, values - error, values + error, color=BLUE, alpha=0.2, linewidth=0)
    if name.startswith("eval/success"):
        axes.set_ylim(-0.03, 1.03)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    tidy(axes, title, "env steps")


def draw_learning(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the learning curves from the rows of metrics.jsonl."""
    figure = new_figure(10.5, 5.6)
    panels = {name: title for name, title in PANELS.items() if any(row.get(name) is not None for row in rows)}
    every_axes = figure.subplots(2, 3).flat
    for axes, (name, title) in zip(every_axes, panels.items(), strict=False):
        draw_curve(axes, rows, name, title)
    for axes in every_axes[len(panels) :]:
        axes.axis("off")
    return figure
