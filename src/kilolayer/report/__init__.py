"""Pictures and the HTML report of a run."""

from kilolayer.report.maze import ValueMap, value_map
from kilolayer.report.write import write_report

__all__ = ["ValueMap", "value_map", "write_report"]
