"""A study of two cases and two seeds that takes seconds, and what its tests share."""

import dataclasses
import functools

from kilolayer.report.style import BLUE, new_figure
from kilolayer.studies import STUDIES, Case, Outcome, Scope, Study, in_turn, run_study
from kilolayer.studies.core.figures import draw_mean_curve, finish_curves, having, values_of
from small_runs import SMALL, small_config

SEEDS = (0, 1)
DEPTHS = (0, 4)
SIZES = ("cpu", "gpu", "paper")

quietly = functools.partial(in_turn, progress=False)


def grid(scope: Scope) -> list[Case]:
    return [scope.case({"task": task, "depth": depth}, task, depth=depth) for task in scope.tasks for depth in DEPTHS]


def draw(outcomes):
    figure = new_figure(4.0, 3.0)
    axes = figure.subplots()
    for depth in values_of(outcomes, "depth"):
        draw_mean_curve(axes, having(outcomes, depth=depth), "eval/time_at_goal", label=f"depth {depth}", color=BLUE)
    finish_curves(axes, "small", "eval/time_at_goal")
    return figure


STUDY: Study = dataclasses.replace(
    STUDIES["depth"],
    name="small",
    tasks=dict.fromkeys(SIZES, ("point_u_maze",)),
    settings=dict.fromkeys(SIZES, SMALL),
    cases=grid,
    draw=draw,
    seeds=len(SEEDS),
)


def small_case(labels=None, **settings) -> Case:
    config = small_config(**settings)
    return Case(labels or {"task": config.env, "depth": config.depth}, config)


def run_all(directory, cases=None, *, study=STUDY, seeds=SEEDS, workers=quietly, **options) -> list[Outcome]:
    """Run a study to its end; returns every outcome, in the order of the grid."""
    cases = study.grid("cpu") if cases is None else cases
    ended = list(run_study(study, cases, seeds, directory, workers=workers, **options))
    return [one for own in sorted(ended, key=lambda own: cases.index(own[0].case)) for one in own]


def numbers(outcomes) -> list[list[dict]]:
    """Return every number of every evaluation but the times, which differ from run to run."""
    return [
        [{name: value for name, value in row.items() if not name.startswith("perf/")} for row in one.rows]
        for one in outcomes
    ]
