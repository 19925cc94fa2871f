"""Pictures of diagnostics.jsonl: norms, gradients and dead units for each block, rank and spread of embeddings."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from kilolayer.report.style import BLUE, ORANGE, new_figure, tidy

TITLES = {"phi": "phi (state-action encoder)", "psi": "psi (goal encoder)"}
"""Titles of networks whose name is not enough."""
BY_BLOCK = {
    "stream_norm": "norm of the residual stream",
    "residual_norm": "norm of what a block adds",
    "gradient_norm": "norm of the gradient",
    "dead_units": "dead units",
}
EMBEDDINGS = {"effective_rank": "effective rank of the embeddings", "spread": "spread of the embeddings"}
MOST_LINES = 12


def draw_diagnostics(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the rows of diagnostics.jsonl: a column of panels for each network, a row for each quantity."""
    networks = list(dict.fromkeys(name.split("/")[0] for name in rows[0] if "/" in name))
    encoders = [name for name in networks if f"{name}/effective_rank" in rows[0]]
    figure = new_figure(3.5 * len(networks), 13.0 if encoders else 10.4)
    grid = figure.subplots(len(BY_BLOCK) + bool(encoders), len(networks), squeeze=False)
    shown = [rows[index] for index in np.unique(np.linspace(0, len(rows) - 1, MOST_LINES).round().astype(int))]
    for line, (what, label) in zip(grid, BY_BLOCK.items(), strict=False):
        for axes, network in zip(line, networks, strict=True):
            title = TITLES.get(network, network.replace("_", " "))
            _draw_by_block(axes, shown, f"{network}/{what}", logarithmic=what != "dead_units")
            tidy(axes, f"{title}: {label}" if what == "stream_norm" else label, "block")
    if encoders:
        _draw_embeddings(grid[-1], rows, encoders)
    return figure


def _draw_embeddings(line: np.ndarray, rows: Sequence[Mapping[str, Any]], encoders: Sequence[str]) -> None:
    """Draw rank and spread of the embeddings over env steps, a line for each encoder."""
    steps = [row["env_steps"] for row in rows]
    for axes, (what, title) in zip(line, EMBEDDINGS.items(), strict=False):
        for network, color in zip(encoders, (BLUE, ORANGE), strict=False):
            axes.plot(steps, [row[f"{network}/{what}"] for row in rows], color=color, linewidth=1.6, label=network)
        axes.legend(fontsize=8, frameon=False)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        tidy(axes, title, "env steps")
    for axes in line[len(EMBEDDINGS) :]:
        axes.axis("off")


def _draw_by_block(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str, *, logarithmic: bool) -> None:
    """Draw a line over the blocks for each row: early rows are dark, late ones light."""
    colors = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, len(rows)))
    for row, color in zip(rows, colors, strict=True):
        values = np.asarray(row[name], float)
        axes.plot(
            np.arange(1, values.size + 1), values, color=color, linewidth=1.2, marker="." if len(values) < 8 else ""
        )
    if logarithmic and any(np.any(np.asarray(row[name]) > 0.0) for row in rows):
        axes.set_yscale("log")
    elif not logarithmic:
        axes.set_ylim(-0.03, 1.03)
