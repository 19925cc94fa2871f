"""The HTML report of a run, and its plots."""

from kilolayer.report.maze import ValueMap, value_map
from kilolayer.report.write import write_report

__all__ = [
    "ValueMap",
    "value_map",
    "write_report",
]
