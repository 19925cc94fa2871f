"""The studies, each in a file of its own."""

from kilolayer.studies.ablation import ABLATION
from kilolayer.studies.actor_critic import ACTOR_CRITIC
from kilolayer.studies.baselines import BASELINES
from kilolayer.studies.batch import BATCH
from kilolayer.studies.collector import COLLECTOR
from kilolayer.studies.core.study import Study
from kilolayer.studies.cost import COST
from kilolayer.studies.depth import DEPTH
from kilolayer.studies.norms import NORMS
from kilolayer.studies.representation import REPRESENTATION
from kilolayer.studies.stitching import STITCHING
from kilolayer.studies.value_map import VALUE_MAP
from kilolayer.studies.width import WIDTH

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
