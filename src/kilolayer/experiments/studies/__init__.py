"""The studies, each in a file of its own."""

from kilolayer.experiments.studies.baselines import BASELINES
from kilolayer.experiments.studies.collector import COLLECTOR
from kilolayer.experiments.studies.depth import DEPTH
from kilolayer.experiments.study import Study

STUDIES: dict[str, Study] = {study.name: study for study in (DEPTH, BASELINES, COLLECTOR)}
"""All studies by name."""

__all__ = ["BASELINES", "COLLECTOR", "DEPTH", "STUDIES"]
