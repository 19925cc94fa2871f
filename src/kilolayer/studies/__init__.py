"""Studies: each a question with a grid of configurations, a table and a figure, run by one command."""

import kilolayer.studies.catalog  # noqa: F401 (registers the studies of the library)
from kilolayer.studies.core.cluster import by_submitit
from kilolayer.studies.core.compare import compare
from kilolayer.studies.core.processes import in_processes
from kilolayer.studies.core.registry import STUDIES, find_study, register_study, unregister_study
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
    "find_study",
    "in_processes",
    "in_turn",
    "interquartile_mean",
    "mean_and_error",
    "register_study",
    "run_study",
    "table",
    "unregister_study",
    "write_results",
]
