"""Studies: each a question with a grid of configurations, a table and a figure, run by one command."""

import kilolayer.studies.catalog  # noqa: F401 (registers the studies of the library)
from kilolayer.studies.core.cluster import by_submitit
from kilolayer.studies.core.compare import compare
from kilolayer.studies.core.executor import Executor, Job
from kilolayer.studies.core.on_ray import by_ray
from kilolayer.studies.core.processes import in_processes
from kilolayer.studies.core.registry import STUDIES, find_study, register_study, unregister_study
from kilolayer.studies.core.results import table, write_results
from kilolayer.studies.core.run import StudyStoppedError, Work, in_turn, run_study
from kilolayer.studies.core.statistics import Interval, bootstrap_interval, interquartile_mean, mean_and_error
from kilolayer.studies.core.study import Case, Measured, Outcome, Scope, Size, Study
from kilolayer.studies.sweep.plan import Sweep
from kilolayer.studies.sweep.results import sweep_results
from kilolayer.studies.sweep.run import run_sweep
from kilolayer.studies.sweep.space import SpaceError

__all__ = [
    "STUDIES",
    "Case",
    "Executor",
    "Interval",
    "Job",
    "Measured",
    "Outcome",
    "Scope",
    "Size",
    "SpaceError",
    "Study",
    "StudyStoppedError",
    "Sweep",
    "Work",
    "bootstrap_interval",
    "by_ray",
    "by_submitit",
    "compare",
    "find_study",
    "in_processes",
    "in_turn",
    "interquartile_mean",
    "mean_and_error",
    "register_study",
    "run_study",
    "run_sweep",
    "sweep_results",
    "table",
    "unregister_study",
    "write_results",
]
