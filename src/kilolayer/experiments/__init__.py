"""Studies of the paper: each a grid of configurations, a metric and a figure, run by one command."""

from kilolayer.experiments.cluster import by_submitit
from kilolayer.experiments.compare import compare
from kilolayer.experiments.processes import in_processes
from kilolayer.experiments.results import table, write_results
from kilolayer.experiments.run import StudyStoppedError, Work, in_turn, run_study
from kilolayer.experiments.statistics import Interval, bootstrap_interval, interquartile_mean, mean_and_error
from kilolayer.experiments.studies import STUDIES
from kilolayer.experiments.study import Case, Measured, Outcome, Scope, Size, Study

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
