"""Depth or width: which uses parameters, operations and time better (Wang et al. 2025, Figure 8)?"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from kilolayer.bench.flops import gradient_step_flops
from kilolayer.report.style import BLUE, ORANGE, new_figure, tidy
from kilolayer.studies.core.budgets import DEPTHS, LIMITS, METRICS, SETTINGS, TASKS, TIME_AT_GOAL, by_depth
from kilolayer.studies.core.figures import (
    draw_untrained_line,
    having,
    metric_name,
    values_of,
    with_caption,
    with_legend,
)
from kilolayer.studies.core.registry import register_study
from kilolayer.studies.core.results import by_case
from kilolayer.studies.core.statistics import mean_and_error
from kilolayer.studies.core.study import Case, Label, Measured, Outcome, Scope, Size, Study
from kilolayer.training import Setup

BASE_DEPTH = 4
"""Depth of the wide networks."""

DEEP: Mapping[Size, tuple[int, ...]] = {**DEPTHS, "cpu": (4, 8, 16, 32)}

AS_WIDE_AS_DEEP: Mapping[Size, tuple[int, ...]] = {**DEEP, "paper": (*DEEP["paper"], 256)}
"""Depths whose numbers of parameters the wide networks match; 256 gives the width 2048, the paper's second widest."""

TOLERANCE = 0.08
"""Largest relative difference in parameters between a wide network and the deep one that it matches."""

COSTS: Mapping[str, tuple[str, Callable[[Outcome], float]]] = {
    "parameters": ("parameters", lambda outcome: outcome.score("parameters")),
    "operations": ("operations in a gradient step", lambda outcome: 1e9 * outcome.score("gflops")),
    "time": ("seconds of training for each seed", lambda outcome: outcome.seconds / outcome.seeds_side_by_side),
}
"""Costs on the x axes: title, label of the axis, and the cost of a run."""


def width_like(depth: int, base_width: int) -> int:
    """Return the width at which networks of the base depth have as many parameters as `depth` layers of `base_width`.

    Nearly all parameters belong to layers of width x width: twice the width equals four times the depth. The width is
    rounded to a multiple of 8, which processors compute fastest.
    """
    return base_width if depth == BASE_DEPTH else max(8 * round(base_width * (depth / BASE_DEPTH) ** 0.5 / 8), 8)


def cases(scope: Scope) -> list[Case]:
    """Return every task at the base width with increasing depth, then at the base depth with increasing width.

    Raises:
        ConfigurationError: if the user sets the depth, or sizes of single networks.
    """
    scope.refuse_changes("*.actor_depth", "*.critic_depth", "*.goal_encoder_depth", "*.actor_width", "*.critic_width")
    limits = LIMITS if scope.limits else ()
    deep = [
        Case({**case.labels, "width": case.config.width}, case.config)
        for case in by_depth(scope, tuple(dict.fromkeys(DEEP[scope.size] + limits)))
    ]
    wide = []
    for case in deep:
        if case.labels["depth"] == BASE_DEPTH:
            for depth in dict.fromkeys(AS_WIDE_AS_DEEP[scope.size] + limits):
                width = width_like(depth, case.config.width)
                config = dataclasses.replace(case.config, width=width)
                wide.append(Case({**case.labels, "width": width}, config))
    return list({case.name: case for case in deep + wide}.values())


def measure(outcome: Outcome) -> Measured:
    """Count the parameters of the networks, and the operations in the matrix products of a gradient step."""
    setup = Setup.build(outcome.case.config)
    counts = setup.agent.parameter_counts()
    scores = {"parameters": sum(counts.values()), "gflops": gradient_step_flops(setup) / 1e9}
    time = {"seconds": outcome.seconds, "seeds_side_by_side": outcome.seeds_side_by_side}
    return Measured(scores, [{f"{name}_parameters": count for name, count in counts.items()} | scores | time])


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw for each task the score over parameters, operations and seconds, for increasing depth and width."""
    tasks = values_of(outcomes, "task")
    width, depth = (min(map(int, values_of(outcomes, label))) for label in ("width", "depth"))
    figure = new_figure(3.7 * len(COSTS) + 1.4, 3.1 * len(tasks))
    grid = figure.subplots(len(tasks), len(COSTS), squeeze=False, sharey="row")
    for line, task in zip(grid, tasks, strict=True):
        for axes, (title, (x_label, cost)) in zip(line, COSTS.items(), strict=True):
            for grows, fixed, color, own in (
                ("depth", f"width {width}", BLUE, having(outcomes, task=task, width=width)),
                ("width", f"depth {depth}", ORANGE, having(outcomes, task=task, depth=depth)),
            ):
                _draw_line(axes, own, grows, cost, name=f"{grows} grows,\n{fixed}", color=color)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.margins(0.1, 0.16)
            tidy(axes, f"{task}: by {title}", x_label, metric_name(TIME_AT_GOAL) if axes is line[0] else "")
    with_legend(figure, grid[0, 0])
    return with_caption(
        figure, outcomes, "Numbers: depth or width; mean over seeds and its standard error; dots are seeds"
    )


def _draw_line(
    axes: Axes, outcomes: Sequence[Outcome], grows: str, cost: Callable[[Outcome], float], *, name: str, color: str
) -> None:
    """Draw scores over their cost, joined in the order of a label whose value is written at each point."""
    own = sorted(by_case(outcomes), key=lambda case: float(case[0].case.labels[grows]))
    if not own:
        return
    places = [float(np.mean([cost(one) for one in case])) for case in own]
    scores = [[one.score(TIME_AT_GOAL) for one in case] for case in own]
    mean, error = np.transpose([mean_and_error(values) for values in scores])
    axes.errorbar(places, mean, np.nan_to_num(error), color=color, marker="o", markersize=4, capsize=3, label=name)
    draw_untrained_line(axes, places, own, TIME_AT_GOAL, color=color)
    values: list[Label] = [case[0].case.labels[grows] for case in own]
    for value, place, middle, seeds in zip(values, places, mean, scores, strict=True):
        axes.plot([place] * len(seeds), seeds, ".", color=color, alpha=0.4, markersize=5, zorder=1)
        offset = (-6, 7) if grows == "depth" else (6, -13)
        axes.annotate(
            str(value), (place, middle), offset, textcoords="offset points", color=color, fontsize=8, ha="center"
        )


WIDTH = register_study(
    Study(
        name="width",
        question="Depth or width: which uses parameters, operations and time better?",
        tasks=TASKS,
        settings=SETTINGS,
        cases=cases,
        metrics=(*METRICS, "parameters", "gflops"),
        draw=draw,
        measure=measure,
    )
)
