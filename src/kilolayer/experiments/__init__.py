"""Studies of the paper: each a grid of configurations, a metric and a figure, run by one command."""

from kilolayer.experiments.baselines import BASELINES
from kilolayer.experiments.run import StudyStoppedError, run_case, run_study, table, write_results
from kilolayer.experiments.study import Case, Outcome, Size, Study, mean_and_error

STUDIES = {study.name: study for study in (BASELINES,)}
"""All studies by name."""

__all__ = [
    "BASELINES",
    "STUDIES",
    "Case",
    "Outcome",
    "Size",
    "Study",
    "StudyStoppedError",
    "mean_and_error",
    "run_case",
    "run_study",
    "table",
    "write_results",
]
