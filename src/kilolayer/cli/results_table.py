"""Print the table of a study or a comparison, or the same as JSON."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from kilolayer.files import json_text
from kilolayer.studies import Outcome, Study, table
from kilolayer.studies.core.results import (
    has_untrained,
    label_names,
    score_text,
    seeds_text,
    short_name,
    untrained_text,
)

WIDEST = 1000
"""Largest width of a table that is not printed to a terminal."""


def print_table(study: Study, outcomes: Sequence[Outcome], *, json: bool) -> None:
    """Print a row for each case: labels, mean and standard error of each metric over seeds, seconds, and seeds.

    A row below has the same of the networks before training.
    """
    rows = table(study, outcomes)
    if json:
        print(json_text(rows))
        return
    labels = label_names(outcomes)
    shown = Table(box=None)
    for name in (*labels, *map(short_name, study.metrics), "seconds", "seeds"):
        shown.add_column(name, justify="left" if name in labels else "right", overflow="fold")
    for row in rows:
        scores = [score_text(row, metric) for metric in study.metrics]
        shown.add_row(*(str(row.get(label, "")) for label in labels), *scores, f"{row['seconds']:.0f}", seeds_text(row))
        if has_untrained(row, study.metrics):
            before = [untrained_text(row, metric) for metric in study.metrics]
            shown.add_row("untrained", *[""] * (len(labels) - 1), *before, style="dim")
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width of its own
        console.width = max(console.width, Console(width=WIDEST).measure(shown).maximum)
    console.print(shown)
