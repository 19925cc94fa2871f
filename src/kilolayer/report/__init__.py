"""Pictures, films and pages of a run, and its HTML report."""

from kilolayer.report.film import write_film, write_strip
from kilolayer.report.maze import ValueMap, value_map
from kilolayer.report.record import record
from kilolayer.report.scene import Scene
from kilolayer.report.viewer import write_page
from kilolayer.report.write import write_report

__all__ = ["Scene", "ValueMap", "record", "value_map", "write_film", "write_page", "write_report", "write_strip"]
