"""The studies, each in a file of its own."""

from kilolayer.experiments.studies.ablation import ABLATION
from kilolayer.experiments.studies.actor_critic import ACTOR_CRITIC
from kilolayer.experiments.studies.baselines import BASELINES
from kilolayer.experiments.studies.batch import BATCH
from kilolayer.experiments.studies.collector import COLLECTOR
from kilolayer.experiments.studies.cost import COST
from kilolayer.experiments.studies.depth import DEPTH
from kilolayer.experiments.studies.norms import NORMS
from kilolayer.experiments.studies.representation import REPRESENTATION
from kilolayer.experiments.studies.stitching import STITCHING
from kilolayer.experiments.studies.value_map import VALUE_MAP
from kilolayer.experiments.studies.width import WIDTH
from kilolayer.experiments.study import Study

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        DEPTH,
        WIDTH,
        ACTOR_CRITIC,
        BATCH,
        ABLATION,
        BASELINES,
        COLLECTOR,
        STITCHING,
        VALUE_MAP,
        REPRESENTATION,
        NORMS,
        COST,
    )
}
"""All studies by name."""

__all__ = [
    "ABLATION",
    "ACTOR_CRITIC",
    "BASELINES",
    "BATCH",
    "COLLECTOR",
    "COST",
    "DEPTH",
    "NORMS",
    "REPRESENTATION",
    "STITCHING",
    "STUDIES",
    "VALUE_MAP",
    "WIDTH",
]
