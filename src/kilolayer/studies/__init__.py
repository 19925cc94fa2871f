"""Studies of the paper: each a grid of configurations, a metric and a figure, run by one command."""

from kilolayer.studies.catalog import STUDIES
from kilolayer.studies.core.cluster import by_submitit
from kilolayer.studies.core.compare import compare
from kilolayer.studies.core.processes import in_processes
from kilolayer.studies.core.results import table, write_results
from kilolayer.studies.core.run import StudyStoppedError, Work, in_turn, run_study
from kilolayer.studies.core.statistics import Interval, bootstrap_interval, interquartile_mean, mean_and_error
from kilolayer.studies.core.study import Case, Measured, Outcome, Scope, Size, Study

__all__ = [
    "STUDIES",
    "Case",
    "Interval",
    "Measured",
    "Outcome",
    "Scope",
    "Size",
    "Study",
    "StudyStoppedError",
    "Work",
    "bootstrap_interval",
    "by_submitit",
    "compare",
    "in_processes",
    "in_turn",
    "interquartile_mean",
    "mean_and_error",
    "run_study",
    "table",
    "write_results",
]
