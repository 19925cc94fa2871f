"""The studies, each in a file of its own."""

from kilolayer.experiments.studies.baselines import BASELINES
from kilolayer.experiments.studies.cost import COST
from kilolayer.experiments.studies.depth import DEPTH
from kilolayer.experiments.studies.stitching import STITCHING
from kilolayer.experiments.study import Study

STUDIES: dict[str, Study] = {study.name: study for study in (DEPTH, BASELINES, STITCHING, COST)}
"""All studies by name."""

__all__ = ["BASELINES", "COST", "DEPTH", "STITCHING", "STUDIES"]
