"""What does residual scaling do in very deep networks: norms and gradients by block during the first updates."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kilolayer.report.style import new_figure, tidy
from kilolayer.studies.core.agents import require_networks
from kilolayer.studies.core.budgets import METRICS
from kilolayer.studies.core.figures import having, values_of, with_caption
from kilolayer.studies.core.registry import register_study
from kilolayer.studies.core.study import Case, Measured, Outcome, Row, Scope, Size, Study

SCALINGS = ("none", "inverse_sqrt")

DEPTHS: Mapping[Size, tuple[int, ...]] = {"cpu": (64, 256, 1024), "gpu": (64, 256, 1024), "paper": (64, 256, 1024)}

BRIEF: Mapping[str, Any] = {"gradient_steps_per_unroll": 30, "num_evals": 12, "num_eval_envs": 16}
"""Few gradient steps between evaluations, so that the first updates can be seen."""

SETTINGS: Mapping[Size, Mapping[str, Any]] = {
    "cpu": {**BRIEF, "total_env_steps": 76_800, "checkpoints_to_keep": 1},
    "gpu": {**BRIEF, "total_env_steps": 1_000_000, "checkpoints_to_keep": 1},
    "paper": {"variant": "paper", "checkpoints_to_keep": 1},
}

PANELS: Mapping[tuple[str, str], tuple[str, tuple[float, float]]] = {
    ("phi", "stream_norm"): ("phi: length of the stream", (5.0, 1000.0)),
    ("phi", "residual_norm"): ("phi: length of what a block adds", (0.2, 20.0)),
    ("phi", "gradient_norm"): ("phi: length of the gradient", (1e-3, 3000.0)),
    ("actor", "gradient_norm"): ("actor: length of the gradient", (1e-3, 3000.0)),
}
"""Norms in the figure by network: title, and limits of the axis. A gradient of zero is below every limit."""

NETWORKS = tuple(dict.fromkeys(network for network, _ in PANELS))

NORMS = tuple(dict.fromkeys(norm for _, norm in PANELS))


def cases(scope: Scope) -> list[Case]:
    """Return every task at every depth, without and with a factor of 1/sqrt(blocks) on every branch.

    Raises:
        ConfigurationError: if the user sets the depth or the scaling, lets the networks grow, or switches the
            diagnostics off, and if the agent lacks one of the networks.
    """
    scope.refuse_changes("grow")
    grid = [
        scope.case(
            {"task": task, "depth": depth, "residual_scaling": scaling},
            task,
            depth=depth,
            architecture={"residual_scaling": scaling},
            diagnostics=True,
        )
        for task in scope.tasks
        for depth in DEPTHS[scope.size]
        for scaling in SCALINGS
    ]
    require_networks(grid, NETWORKS)
    return grid


def measure(outcome: Outcome) -> Measured:
    """Return the norms of every block at every evaluation, and the longest stream and largest gradient at the ends."""
    seen = outcome.run.diagnostics()
    if not seen:
        return Measured()
    rows: list[Row] = []
    for row in seen:
        for network in NETWORKS:
            by_norm = {norm: row[f"{network}/{norm}"] for norm in NORMS}
            for block in range(len(by_norm[NORMS[0]])):
                place = {"gradient_steps": row["gradient_steps"], "network": network, "block": block + 1}
                rows.append(place | {norm: float(values[block]) for norm, values in by_norm.items()})
    scores = {
        "first_stream_norm": float(max(seen[0]["phi/stream_norm"])),
        "last_stream_norm": float(max(seen[-1]["phi/stream_norm"])),
        "last_actor_gradient": float(seen[-1]["actor/gradient_norm"][-1]),
    }
    return Measured(scores, rows)


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw a row for each case and a panel for each norm, with a line for each evaluation of the first seed."""
    grid = [
        (task, depth, scaling, own)
        for task in values_of(outcomes, "task")
        for depth in values_of(outcomes, "depth")
        for scaling in SCALINGS
        if (own := having(outcomes, task=task, depth=depth, residual_scaling=scaling))
    ]
    figure = new_figure(11.0, 2.5 * len(grid) + 0.4)
    panels = figure.subplots(len(grid), len(PANELS), squeeze=False)
    for line, (task, depth, scaling, own) in zip(panels, grid, strict=True):
        for axes, ((network, norm), (title, limits)) in zip(line, PANELS.items(), strict=True):
            _draw_evaluations(axes, own[0], network, norm)
            axes.set_yscale("log")
            axes.set_ylim(limits)
            tidy(axes, title, "block", f"{task}\ndepth {depth}, scaling {scaling}" if axes is line[0] else "")
    return with_caption(
        figure, outcomes, "Each line is an evaluation, from dark to light; first seed", untrained="darkest: untrained"
    )


def _draw_evaluations(axes: Axes, outcome: Outcome, network: str, norm: str) -> None:
    by_step: dict[Any, list[float]] = {}
    for row in outcome.measured.rows:
        if row["network"] == network:
            by_step.setdefault(row["gradient_steps"], []).append(float(row[norm]))
    colors = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, len(by_step)))
    for values, color in zip(by_step.values(), colors, strict=True):
        marker = "o" if len(values) == 1 else None
        axes.plot(np.arange(1, len(values) + 1), values, color=color, linewidth=1.0, marker=marker, markersize=3)


RESIDUAL_SCALING = register_study(
    Study(
        name="residual_scaling",
        question="What does residual scaling do in very deep networks?",
        tasks={"cpu": ("point_u_maze",), "gpu": ("ant_big_maze",), "paper": ("humanoid_u_maze",)},
        settings=SETTINGS,
        cases=cases,
        metrics=("first_stream_norm", "last_stream_norm", "last_actor_gradient", "train/critic_loss", *METRICS),
        draw=draw,
        measure=measure,
        seeds=1,
    )
)
