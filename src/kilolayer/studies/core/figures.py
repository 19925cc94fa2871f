"""Parts of figures: curves over env steps or seconds, scores over a number, bars with every seed."""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from kilolayer.report.style import BLUE, DARK, GREY, colors_of, new_figure, tidy
from kilolayer.studies.core.results import by_case, short_name
from kilolayer.studies.core.statistics import interquartile_mean, interval_name, interval_or_range, mean_and_error
from kilolayer.studies.core.study import Label, Outcome

UNTRAINED = "dotted: untrained"
"""How most figures show the scores of networks before training."""

NAMES = {
    "success_any": "episodes that reach their goal",
    "success_final": "episodes at their goal at the end",
    "time_at_goal": "steps at the goal",
}
"""Names of metrics for axes."""


def metric_name(metric: str) -> str:
    """Return the name of a metric for an axis."""
    return NAMES.get(short_name(metric), short_name(metric).replace("_", " "))


def values_of(outcomes: Sequence[Outcome], label: str) -> list[Label]:
    """Return the values of a label, in the order of the grid."""
    return list(dict.fromkeys(outcome.case.labels[label] for outcome in outcomes if label in outcome.case.labels))


def having(outcomes: Sequence[Outcome], **labels: Label) -> list[Outcome]:
    """Return the outcomes of the cases with these labels."""
    return [one for one in outcomes if all(one.case.labels.get(name) == value for name, value in labels.items())]


def shades_of(values: Sequence[Label]) -> dict[Label, str]:
    """Return a colour for each value, from dark for the first to light for the last."""
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, len(values)))
    return {value: matplotlib.colors.to_hex(shade) for value, shade in zip(values, shades, strict=True)}


def draw_mean_curve(
    axes: Axes, outcomes: Sequence[Outcome], metric: str, *, label: str, color: str, band: bool = True
) -> None:
    """Draw a metric of one case over env steps: the mean, one standard error as a band, and each seed as a thin line.

    The curve has the evaluations that all seeds share. A dotted line is what the networks scored before training.
    """
    steps, values = _shared_curve(outcomes, metric)
    if not steps:
        return
    for seed in values if len(values) > 1 else ():
        axes.plot(steps, seed, color=color, linewidth=0.5, alpha=0.45 if band else 0.3)
    draw_mean_line(axes, steps, values, label=label, color=color, band=band)
    draw_untrained(axes, outcomes, metric, color=color)


def draw_mean_line(
    axes: Axes,
    places: Sequence[float],
    values: Float[np.ndarray, "seeds places"],
    *,
    label: str,
    color: str,
    band: bool = True,
) -> None:
    """Draw the mean over seeds as a line, and one standard error as a band."""
    mean, error = np.transpose([mean_and_error(column) for column in values.T])
    axes.plot(places, mean, color=color, linewidth=1.7, label=label)
    if band:
        low, high = mean - np.nan_to_num(error), mean + np.nan_to_num(error)
        axes.fill_between(places, low, high, color=color, alpha=0.18, linewidth=0)


def draw_untrained(axes: Axes, outcomes: Sequence[Outcome], metric: str, *, color: str) -> None:
    """Draw the mean score of the networks of one case before training as a dotted line, if it is known."""
    level = untrained_mean(outcomes, metric)
    if not np.isnan(level):
        axes.axhline(level, color=color, linewidth=0.8, linestyle=":", zorder=0)


def draw_untrained_line(
    axes: Axes, places: Sequence[float], cases: Sequence[Sequence[Outcome]], metric: str, *, color: str
) -> None:
    """Draw the mean scores of several cases before training as a dotted line, if any is known."""
    levels = [untrained_mean(own, metric) for own in cases]
    if not np.isnan(levels).all():
        axes.plot(places, levels, ":.", color=color, linewidth=1.0, markersize=3)


def untrained_mean(outcomes: Sequence[Outcome], metric: str) -> float:
    """Return the mean of the scores before training, of the seeds whose score is known; NaN if there is none."""
    known = [score for outcome in outcomes if not np.isnan(score := outcome.untrained(metric))]
    return float(np.mean(known)) if known else np.nan


def draw_over_seconds(axes: Axes, outcomes: Sequence[Outcome], metric: str, *, label: str, color: str) -> None:
    """Draw a metric of one case over seconds of training: at each evaluation, the means over seeds of both."""
    if not outcomes:
        return
    count = min(len(outcome.rows) for outcome in outcomes)
    rows = [outcome.rows[:count] for outcome in outcomes]
    seconds = np.mean([[row["perf/seconds"] for row in own] for own in rows], axis=0)
    draw_mean_line(axes, seconds, np.array([[row[metric] for row in own] for own in rows]), label=label, color=color)
    draw_untrained(axes, outcomes, metric, color=color)
    axes.xaxis.set_major_locator(MaxNLocator(5))


def draw_reference(axes: Axes, outcomes: Sequence[Outcome], metric: str, *, label: str, color: str) -> None:
    """Draw the mean of a metric of one case over env steps as a dashed line, for comparison with other cases."""
    steps, values = _shared_curve(outcomes, metric)
    if steps:
        axes.plot(steps, values.mean(axis=0), color=color, linewidth=1.2, linestyle="--", label=label)


def _shared_curve(
    outcomes: Sequence[Outcome], metric: str
) -> tuple[list[float], Float[np.ndarray, "seeds evaluations"]]:
    """Return the env steps of the evaluations that all seeds share, and the values of each seed at them."""
    curves = [dict(zip(*outcome.curve(metric), strict=True)) for outcome in outcomes]
    steps = sorted(set.intersection(*map(set, curves))) if curves else []
    return steps, np.array([[curve[step] for step in steps] for curve in curves]).reshape(len(curves), len(steps))


def finish_curves(axes: Axes, title: str, metric: str) -> None:
    """Label axes that have curves over env steps."""
    if "success" in metric:
        axes.set_ylim(-0.03, 1.03)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    tidy(axes, title, "env steps", metric_name(metric))


def draw_scores_over(
    axes: Axes, outcomes: Sequence[Outcome], label: str, metric: str, *, name: str = "", color: str = BLUE
) -> None:
    """Draw scores over a numeric label on a scale of powers of two: the mean, its standard error, and every seed.

    A dotted line joins the scores before training, where they are known.
    """
    cases = sorted(by_case(outcomes), key=lambda own: float(own[0].case.labels[label]))
    places = [float(own[0].case.labels[label]) for own in cases]
    scores = [[one.score(metric) for one in own] for own in cases]
    mean, error = np.transpose([mean_and_error(values) for values in scores])
    axes.errorbar(places, mean, np.nan_to_num(error), color=color, marker="o", markersize=4, capsize=3, label=name)
    for place, values in zip(places, scores, strict=True):
        axes.plot([place] * len(values), values, ".", color=color, alpha=0.4, markersize=5, zorder=1)
    draw_untrained_line(axes, places, cases, metric, color=color)
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.minorticks_off()


def draw_bars(
    axes: Axes, groups: Mapping[str, Sequence[Outcome]], metric: str, *, colors: Mapping[str, str] | None = None
) -> None:
    """Draw a bar for each group with its interquartile mean, the interval or range of that, and every seed.

    A dotted mark across a bar is the mean score of its networks before training, where it is known.
    """
    for place, (name, own) in enumerate(groups.items()):
        scores = np.array([one.score(metric) for one in own])
        middle = float(interquartile_mean(scores[:, None]))
        low, high = interval_or_range(scores)
        color = (colors or {}).get(name, BLUE)
        axes.barh(place, middle, color=color, alpha=0.55, height=0.66)
        axes.plot([low, high], [place, place], color=DARK, linewidth=1.6)
        axes.plot(scores, np.full(scores.size, place), "o", color=DARK, markersize=3, alpha=0.6)
        level = untrained_mean(own, metric)
        if not np.isnan(level):
            axes.plot([level, level], [place - 0.4, place + 0.4], color=DARK, linewidth=1.2, linestyle=":")
    axes.set_yticks(range(len(groups)), list(groups), fontsize=8)
    axes.invert_yaxis()
    axes.axvline(0.0, color=GREY, linewidth=0.6)


def interval_of(outcomes: Sequence[Outcome]) -> str:
    """Return what the lines on bars are, for a caption: an interval, or the range of few seeds."""
    return interval_name(len(own) for own in by_case(outcomes))


def agents_by_depth(
    outcomes: Sequence[Outcome], metrics: Sequence[str], what: str, *, clock: str = "env steps"
) -> Figure:
    """Return a figure with a row for each task and metric, a column for each depth, and a curve for each agent.

    Args:
        outcomes: of a study by `task`, `agent` and `depth`.
        metrics: names of metrics.
        what: what the figure shows, for its caption.
        clock: what the curves run over.
    """
    depths, agents = values_of(outcomes, "depth"), values_of(outcomes, "agent")
    rows = list(itertools.product(values_of(outcomes, "task"), metrics))
    figure = new_figure(4.6 * len(depths) + 1.4, 2.9 * len(rows) + 0.3)
    grid = figure.subplots(len(rows), len(depths), squeeze=False, sharey="row")
    for line, (task, metric) in zip(grid, rows, strict=True):
        for axes, depth in zip(line, depths, strict=True):
            for agent, color in zip(agents, colors_of(len(agents)), strict=True):
                own = having(outcomes, task=task, agent=agent, depth=depth)
                draw_mean_curve(axes, own, metric, label=str(agent), color=color, band=False)
            finish_curves(axes, f"{task}, depth {depth}", metric)
            axes.set_xlabel(clock)
        for axes in line[1:]:
            axes.set_ylabel("")
    with_legend(figure, grid[0, 0])
    return with_caption(figure, outcomes, what)


def with_caption(figure: Figure, outcomes: Sequence[Outcome], what: str, *, untrained: str = UNTRAINED) -> Figure:
    """Write above a figure what it shows and how many seeds it has, and return the figure.

    Args:
        figure: the figure.
        outcomes: what it shows.
        what: the caption.
        untrained: how it shows the scores before training; empty if it does not.
    """
    count = len({outcome.seed for outcome in outcomes})
    parts = [what, *([untrained] if untrained else []), f"{count} seed{'s' if count > 1 else ''}"]
    figure.suptitle("; ".join(parts), fontsize=9)
    return figure


def with_legend(figure: Figure, axes: Axes) -> None:
    """Draw the legend of some axes beside the figure."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
