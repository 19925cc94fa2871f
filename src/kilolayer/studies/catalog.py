"""The studies of the library: each module registers its own study, as a user's file does."""

# ruff: noqa: F401
import kilolayer.studies.ablation
import kilolayer.studies.actor_critic
import kilolayer.studies.baselines
import kilolayer.studies.batch
import kilolayer.studies.collector
import kilolayer.studies.cost
import kilolayer.studies.depth
import kilolayer.studies.engines
import kilolayer.studies.frontier
import kilolayer.studies.growth
import kilolayer.studies.norms
import kilolayer.studies.offline
import kilolayer.studies.random_exploration
import kilolayer.studies.representation
import kilolayer.studies.residual_scaling
import kilolayer.studies.stitching
import kilolayer.studies.updates
import kilolayer.studies.value_map
import kilolayer.studies.width
