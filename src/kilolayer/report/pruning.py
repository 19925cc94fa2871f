"""The table and the figure of what pruning does to a policy: score, action error and latency over blocks kept."""

import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kilolayer.bench.pruned import bench_pruned
from kilolayer.errors import RunError
from kilolayer.files import csv_text, write_whole
from kilolayer.report.style import BLUE, GREY, ORANGE, new_figure, save, tidy
from kilolayer.settings import check_count
from kilolayer.training.pruning import EPISODES, Pruning, points_of

POINTS = 16
"""Numbers of blocks that are looked at, at most."""

SCORES = ("success_any", "time_at_goal")

TABLE, RANKING, FIGURE = "pruning.csv", "pruning_blocks.csv", "pruning.png"
"""Files in the directory of the results."""


@dataclasses.dataclass(frozen=True)
class PrunedRow:
    """A policy with some of the blocks of its actor."""

    blocks: int
    """Blocks that stay."""
    depth: int
    """Depth that they make."""
    left_out: int | None
    """Number of the block that is left out and was not in the row before it in the order; None with all blocks."""
    action_error: float
    """Mean difference from the actions with all blocks; actions are in [-1, 1]."""
    largest_action_error: float
    success_any: float
    success_any_stderr: float
    time_at_goal: float
    time_at_goal_stderr: float
    act_seconds: float | None
    """Median seconds of an action on one core; None if it was not measured."""


def pruning_rows(
    run: str | os.PathLike,
    pruning: Pruning,
    *,
    points: int = POINTS,
    episodes: int = EPISODES,
    calls: int = 200,
    log: Callable[[str], object] = id,
) -> Iterator[PrunedRow]:
    """Yield what is left of a policy with fewer and fewer blocks, from all to one.

    Args:
        run: the run directory.
        pruning: what `rank` returned for it.
        points: numbers of blocks that are looked at, at most.
        episodes: that score each; the same for all.
        calls: timed calls of each compiled policy; 0 measures no time.
        log: called with a line before each stage.

    Raises:
        ConfigurationError: at the first row, for a number that is out of its range.
        KilolayerError: if the process that measures time fails.
    """
    check_count("points", points)
    check_count("episodes", episodes)
    check_count("calls", calls, least=0)
    order, actor = pruning.order, pruning.actor
    numbers = points_of(order.num_blocks, points)
    times: Sequence[float | None] = [None] * len(numbers)
    if calls:
        log("timing actions on one core")
        kept = [order.kept(number) for number in numbers]
        times = bench_pruned(run, kept, checkpoint=_step(pruning), calls=calls, log=log)
    errors, largest = (0.0, *order.errors), (0.0, *order.largest)
    for number, seconds in zip(numbers, times, strict=True):
        log(f"{number} of {order.num_blocks} blocks: {episodes} episodes")
        metrics = pruning.score(number, episodes=episodes)
        gone = order.num_blocks - number
        yield PrunedRow(
            blocks=number,
            depth=number * (actor.depth // actor.num_blocks),
            left_out=order.left_out[gone - 1] if gone else None,
            action_error=errors[gone],
            largest_action_error=largest[gone],
            **{f"{name}{end}": metrics[f"eval/{name}{end}"] for name in SCORES for end in ("", "_stderr")},
            act_seconds=seconds,
        )


def _step(pruning: Pruning) -> int | None:
    contract = pruning.policy.contract
    return contract.env_steps or contract.gradient_steps


def write_pruning(directory: Path, pruning: Pruning, rows: Sequence[PrunedRow]) -> tuple[Path, Path]:
    """Write the table of the rows, the ranking of the blocks, and the figure.

    Args:
        directory: of the files; it is made if it is missing.
        pruning: what `rank` returned.
        rows: of the figure.

    Returns:
        The paths of the table and of the figure.

    Raises:
        RunError: if they cannot be written.
    """
    ranking = [{"block": block, "action_error": error} for block, error in enumerate(pruning.order.alone)]
    with _write_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(directory / TABLE, csv_text([dataclasses.asdict(row) for row in rows]))
        write_whole(directory / RANKING, csv_text(ranking))
        picture = save(draw_pruning(pruning, rows), directory / FIGURE)
    return directory / TABLE, picture


def check_writable(directory: Path) -> None:
    """Check that files can be written into a directory, which may have to be made; nothing is left behind.

    Raises:
        RunError: if they cannot.
    """
    with _write_errors(directory):
        present = next(parent for parent in (directory, *directory.absolute().parents) if parent.exists())
        tempfile.TemporaryFile(dir=present).close()


@contextmanager
def _write_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"{directory} cannot be written: {error.strerror or error}") from error


def draw_pruning(pruning: Pruning, rows: Sequence[PrunedRow]) -> Figure:
    """Draw what each block does by itself, and scores, action error and time over the blocks that stay."""
    timed = all(row.act_seconds is not None for row in rows)
    figure = new_figure(4.0 * (4 if timed else 3), 3.4)
    alone, scores, errors, *times = figure.subplots(1, 4 if timed else 3)
    alone.bar(np.arange(pruning.order.num_blocks), pruning.order.alone, color=BLUE)
    tidy(alone, "action error with one block left out", "block")
    blocks = [row.blocks for row in rows]
    for name, color in zip(SCORES, (BLUE, ORANGE), strict=True):
        most = 1.0 if name == "success_any" else pruning.environment.episode_length
        values, error = (np.array([getattr(row, f"{name}{end}") for row in rows]) / most for end in ("", "_stderr"))
        label = {"success_any": "episodes that reach the goal", "time_at_goal": "share of steps at the goal"}[name]
        scores.plot(blocks, values, color=color, marker="o", markersize=3, label=label)
        scores.fill_between(blocks, values - error, values + error, color=color, alpha=0.2, linewidth=0)
    scores.set_ylim(-0.03, 1.03)
    scores.legend(fontsize=8, frameon=False)
    tidy(scores, "score", "blocks kept")
    lines: list[tuple[Any, str, str]] = [(errors, "action_error", "action error")]
    lines += [(times[0], "act_seconds", "milliseconds of an action, one core")] if timed else []
    for axes, name, title in lines:
        scale = 1e3 if name == "act_seconds" else 1.0
        axes.plot(blocks, [scale * getattr(row, name) for row in rows], color=GREY, marker="o", markersize=3)
        axes.set_ylim(bottom=0.0)
        tidy(axes, title, "blocks kept")
    for axes in (alone, scores, errors, *times):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
