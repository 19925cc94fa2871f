"""The HTML report of a run, and its pictures."""

from kilolayer.report.steps_to_goal import StepsMap, steps_map
from kilolayer.report.values import ValueMap, value_map
from kilolayer.report.write import write_report

__all__ = [
    "StepsMap",
    "ValueMap",
    "steps_map",
    "value_map",
    "write_report",
]
