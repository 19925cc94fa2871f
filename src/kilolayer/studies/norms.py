"""What does each residual block add to the stream, and how large is its gradient, with deeper networks?"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from kilolayer.report.diagnostics import TITLES
from kilolayer.report.style import new_figure, tidy
from kilolayer.studies.core.agents import require_networks
from kilolayer.studies.core.budgets import SETTINGS, TASKS, by_depth
from kilolayer.studies.core.figures import having, shades_of, values_of, with_caption, with_legend
from kilolayer.studies.core.registry import register_study
from kilolayer.studies.core.study import LAST, Case, Measured, Outcome, Row, Scope, Study

NETWORKS = ("actor", "phi", "psi")

NORMS_BY_BLOCK = ("stream_norm", "residual_norm", "gradient_norm")

PANELS = {
    "residual_ratio": "what a block adds / the stream into it",
    "gradient_norm": "length of the gradient of a block",
}
"""Rows of the figure: a norm, and the label of its axis."""

METRICS = tuple(f"{network}_{place}_ratio" for network in NETWORKS for place in ("first", "last"))
"""Length of what the first and the last block add, divided by the length of their input."""


def cases(scope: Scope) -> list[Case]:
    """Return every task at every depth, with diagnostics at each evaluation.

    Raises:
        ConfigurationError: if the agent lacks one of the networks.
    """
    grid = by_depth(scope)
    require_networks(grid, NETWORKS)
    return grid


def measure(outcome: Outcome) -> Measured:
    """Return the norms by block, as means over the last evaluations."""
    last = outcome.run.diagnostics()[-LAST:]
    rows: list[Row] = []
    scores: dict[str, float] = {}
    for network in NETWORKS:
        means = {what: np.mean([row[f"{network}/{what}"] for row in last], axis=0) for what in NORMS_BY_BLOCK}
        ratio = means["residual_norm"] / means["stream_norm"]
        blocks = ratio.size
        for block in range(blocks):
            place = {"network": network, "block": block + 1, "relative_depth": (block + 0.5) / blocks}
            found = {what: float(values[block]) for what, values in means.items()}
            rows.append(place | found | {"residual_ratio": float(ratio[block])})
        if blocks:
            scores |= {f"{network}_first_ratio": float(ratio[0]), f"{network}_last_ratio": float(ratio[-1])}
    return Measured(scores, rows)


def by_block(outcome: Outcome, network: str, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the relative depth of each block of a network, and a norm of it."""
    rows = [row for row in outcome.measured.rows if row["network"] == network]
    return tuple(np.array([row[name] for row in rows], float) for name in ("relative_depth", what))  # type: ignore


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw a column for each network. For each task the upper row has what blocks add, the lower their gradients."""
    tasks, depths = values_of(outcomes, "task"), values_of(outcomes, "depth")
    figure = new_figure(3.7 * len(NETWORKS) + 1.0, 2.7 * len(PANELS) * len(tasks) + 0.3)
    grid = figure.subplots(len(PANELS) * len(tasks), len(NETWORKS), squeeze=False, sharex=True, sharey="row")
    lines = iter(grid)
    for task in tasks:
        for what, name in PANELS.items():
            line = next(lines)
            for axes, network in zip(line, NETWORKS, strict=True):
                for depth, color in shades_of(depths).items():
                    _draw_lines(axes, having(outcomes, task=task, depth=depth), network, what, f"depth {depth}", color)
            for axes, network in zip(line, NETWORKS, strict=True):  # after all lines are drawn: panels share a scale
                _finish(axes, f"{task}: {TITLES.get(network, network)}", name, network, what)
    with_legend(figure, grid[0, 0])
    return with_caption(
        figure, outcomes, f"By block, mean of the last {LAST} evaluations; thin lines are seeds", untrained=""
    )


def _draw_lines(axes: Axes, outcomes: Sequence[Outcome], network: str, what: str, label: str, color: str) -> None:
    """Draw a norm over the blocks of one case: the mean over seeds, and each seed as a thin line."""
    if not outcomes:
        return
    curves = [by_block(outcome, network, what) for outcome in outcomes]
    place, values = curves[0][0], np.stack([values for _, values in curves])
    marker = "o" if place.size < 8 else ""
    for seed in values if len(values) > 1 else ():
        axes.plot(place, seed, color=color, linewidth=0.5, marker=marker and ".", markersize=3, alpha=0.45)
    axes.plot(place, values.mean(axis=0), color=color, linewidth=1.7, marker=marker, markersize=4, label=label)


def _finish(axes: Axes, title: str, name: str, network: str, what: str) -> None:
    axes.set_xlim(-0.03, 1.03)
    if what == "gradient_norm":
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        tidy(axes, "", "place in the network", name if network == NETWORKS[0] else "")
    else:
        axes.set_ylim(bottom=0.0)
        tidy(axes, title, "", name if network == NETWORKS[0] else "")


NORMS = register_study(
    Study(
        name="norms",
        question="What does each residual block add, and how large is its gradient, with deeper networks?",
        tasks=TASKS,
        settings=SETTINGS,
        cases=cases,
        metrics=METRICS,
        draw=draw,
        measure=measure,
    )
)
