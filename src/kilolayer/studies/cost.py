"""The cost of depth in time, memory and operations (Wang et al. 2025, Tables 3 and 4), and success over time."""

import functools
from collections.abc import Mapping, Sequence
from itertools import pairwise, takewhile
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from kilolayer.bench.flops import gradient_step_flops
from kilolayer.bench.memory import learn_memory
from kilolayer.report.style import GREY, new_figure, tidy
from kilolayer.runs import SeedGroup, TrainConfig
from kilolayer.studies.core.budgets import SETTINGS, SUCCESS_ANY, TASKS, by_depth
from kilolayer.studies.core.figures import (
    draw_over_seconds,
    draw_scores_over,
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
from kilolayer.studies.core.study import Measured, Outcome, Row, Study
from kilolayer.training import Setup

MOST = 0.9
"""Share of episodes that reach their goal, for `seconds_to_90`."""

MIB = 2.0**20

PANELS: Mapping[str, tuple[str, str]] = {
    "seconds_per_million": ("time", "seconds per million env steps"),
    "memory_mib": ("memory", "MiB for a round of gradient steps"),
    "gflops": ("operations", "GFLOP per gradient step"),
}
"""Scores drawn over depth: title, and label of the axis."""


def measure(outcome: Outcome) -> Measured:
    """Measure the times in the metrics of a run, and the operations and memory of its program on this machine."""
    costs, counts = _program(outcome.case.config)
    group = SeedGroup.open(outcome.run.path.parent)
    # Seeds are evaluated one after another: the rows of the last one include the time of all.
    ms_per_step, env_steps_per_second = pace(group.runs[-1].metrics())
    scores = {
        "parameters": float(sum(counts.values())),
        **costs,
        "ms_per_gradient_step": ms_per_step,
        "env_steps_per_second": env_steps_per_second,
        "seconds_per_million": 1e6 / env_steps_per_second,
        "seconds_to_90": seconds_to(MOST, outcome.rows),
    }
    row: Row = {
        **{f"{name}_parameters": count for name, count in counts.items()},
        **scores,
        "seconds": outcome.seconds,
        "seeds_side_by_side": outcome.seeds_side_by_side,
    }
    return Measured(scores, [row])


@functools.lru_cache(maxsize=64)
def _program(config: TrainConfig) -> tuple[dict[str, float], dict[str, int]]:
    """Return operations and memory of the gradient steps, and the parameters of each network. Seeds do not matter."""
    setup = Setup.build(config)
    memory = learn_memory(setup)
    costs = {
        "gflops": gradient_step_flops(setup) / 1e9,
        "memory_mib": memory.peak / MIB,
        "scratch_mib": memory.scratch / MIB,
    }
    return costs, setup.agent.parameter_counts()


def pace(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return milliseconds per gradient step, collecting included, and env steps per second, from the rows of a run.

    Both are medians over the intervals between evaluations that have gradient steps, without the time of the
    evaluations. Compilation falls into the first interval. NaN if there is no such interval.
    """
    step_times, speeds = [], []
    for before, after in pairwise(rows):
        seconds = after["perf/seconds"] - before["perf/seconds"] - before["perf/eval_seconds"]
        steps = after["gradient_steps"] - before["gradient_steps"]
        if steps > 0 and seconds > 0.0:
            step_times.append(1e3 * seconds / steps)
            speeds.append((after["env_steps"] - before["env_steps"]) / seconds)
    return (float(np.median(step_times)), float(np.median(speeds))) if speeds else (np.nan, np.nan)


def seconds_to(success: float, rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the seconds of training after which success_any stays at this value or above; NaN if it does not.

    The first time above it does not count: on some tasks an untrained policy may reach most goals once by chance.
    """
    lasting = list(takewhile(lambda row: row[SUCCESS_ANY] >= success, reversed(rows)))
    return float(lasting[-1]["perf/seconds"]) if lasting else np.nan


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw for each task time, memory and operations over depth, and success over seconds of training."""
    tasks = values_of(outcomes, "task")
    colors = shades_of(values_of(outcomes, "depth"))
    figure = new_figure(3.4 * (len(PANELS) + 1) + 1.1, 3.2 * len(tasks))
    grid = figure.subplots(len(tasks), len(PANELS) + 1, squeeze=False)
    for line, task in zip(grid, tasks, strict=True):
        own = having(outcomes, task=task)
        for axes, (metric, (title, y_label)) in zip(line, PANELS.items(), strict=False):
            draw_scores_over(axes, own, "depth", metric)
            _draw_proportion(axes, own, metric)
            _finish_powers_of_two(axes)
            tidy(axes, f"{task}: {title}", "depth", y_label)
        for depth, color in colors.items():
            draw_over_seconds(line[-1], having(own, depth=depth), SUCCESS_ANY, label=f"depth {depth}", color=color)
        line[-1].axhline(MOST, color=GREY, linewidth=0.8, linestyle="-.")
        line[-1].set_ylim(-0.03, 1.03)
        tidy(line[-1], f"{task}: success over time", "seconds of training", metric_name(SUCCESS_ANY))
    grid[0, 0].legend(fontsize=8, frameon=False)
    with_legend(figure, grid[0, -1])
    return with_caption(figure, outcomes, "The cost of depth; mean over seeds and its standard error, dots are seeds")


def _draw_proportion(axes: Axes, outcomes: Sequence[Outcome], metric: str) -> None:
    """Draw a line in proportion to depth through the deepest case."""
    cases = sorted(by_case(outcomes), key=lambda own: float(own[0].case.labels["depth"]))
    depths = np.array([float(own[0].case.labels["depth"]) for own in cases])
    deepest = mean_and_error([one.score(metric) for one in cases[-1]])[0]
    line = deepest * depths / depths[-1]
    axes.plot(depths, line, color=GREY, linewidth=1.0, linestyle="--", zorder=0, label="in proportion to depth")


def _finish_powers_of_two(axes: Axes) -> None:
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
    axes.yaxis.set_minor_locator(NullLocator())


COST = register_study(
    Study(
        name="cost",
        question="What does depth cost in time, memory and operations, and which success does the time give?",
        tasks=TASKS,
        settings=SETTINGS,
        cases=by_depth,
        metrics=(
            "parameters",
            "gflops",
            "memory_mib",
            "ms_per_gradient_step",
            "env_steps_per_second",
            "seconds_to_90",
            SUCCESS_ANY,
        ),
        draw=draw,
        measure=measure,
    )
)
