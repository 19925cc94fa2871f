"""Colours, fonts and sizes of all pictures, and how they are saved."""

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, ORANGE, GREY, DARK = "#0072b2", "#d55e00", "#8c8c8c", "#30343b"
"""Colours that are distinct for colour-blind readers."""

PALETTE = (BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", DARK, GREY, "#882255", "#b2a300", "#44aa99")
"""Colours for the lines of a figure, distinct in hue and lightness."""

DPI = 110


def colors_of(count: int) -> list[str]:
    """Return so many different colours: of the palette, or where it has too few, along a scale."""
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    return [matplotlib.colors.to_hex(matplotlib.colormaps["turbo"](place / (count - 1))) for place in range(count)]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, independent of matplotlib's global state. Width and height are in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes, title: str, x_label: str = "", y_label: str = "") -> None:
    """Set title and labels, and remove the upper and right frame."""
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x_label, fontsize=9)
    axes.set_ylabel(y_label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
