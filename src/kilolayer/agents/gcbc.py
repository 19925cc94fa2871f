"""Goal-conditioned behavioural cloning: imitate every action, given the goals that followed it (Lynch et al., 2019;
Ding et al., 2019). `kilolayer.agents.core.imitation` holds the likelihood.
"""

import dataclasses
from typing import Literal, get_args

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.behaviour_cloning import constant_width_density
from kilolayer.agents.core.checks import check_choice, check_discount, check_finite, check_positive
from kilolayer.agents.core.imitation import ImitationAgent
from kilolayer.agents.core.registry import AgentSpec, register_agent
from kilolayer.objectives import tanh_gaussian

Exploration = Literal["policy", "random"]
Likelihood = Literal["policy", "constant_width"]


@dataclasses.dataclass(frozen=True)
class GCBCConfig:
    """Settings of goal-conditioned behavioural cloning."""

    discount: float = 0.99
    """A goal k steps ahead is drawn with weight discount^k."""
    actor_learning_rate: float = 3e-4
    """Learning rate of the actor."""
    exploration: Exploration = "policy"
    """What collects the data to clone: policy (its own draws, as in the paper's comparison) or random (uniform actions,
    a behaviour that stays as it is)."""

    likelihood: Likelihood = "policy"
    """Of the data's actions: policy (the policy's own density), or constant_width (that of a Gaussian of width 1 around
    the deterministic action: the squared error, as OGBench has it, which actions at the ends of their range cannot
    pull apart)."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        check_finite(self)
        check_discount(self, one_is_valid=True)
        check_positive(self, "actor_learning_rate")
        check_choice(self, "exploration", get_args(Exploration))
        check_choice(self, "likelihood", get_args(Likelihood))


@dataclasses.dataclass(frozen=True)
class GCBC(ImitationAgent):
    """Maximise the mean of log pi(a | s, g), g reached k steps after (s, a) with weight discount^k."""

    config: GCBCConfig = GCBCConfig()

    @property
    def goal_discount(self) -> float:
        """A goal k steps ahead is drawn with weight goal_discount^k."""
        return self.config.discount

    def log_likelihood(
        self,
        mean: Float[Array, "*batch action"],
        log_std: Float[Array, "*batch action"],
        action: Float[Array, "*batch action"],
    ) -> Float[Array, "*batch"]:
        """Return the log-density of the data's actions, by the density that is asked for."""
        if self.config.likelihood == "constant_width":
            return constant_width_density(mean, action)
        return super().log_likelihood(mean, log_std, action)

    def explore(
        self, mean: Float[Array, "*batch action"], log_std: Float[Array, "*batch action"], key: PRNGKeyArray
    ) -> Float[Array, "*batch action"]:
        """Draw from the policy, or uniformly."""
        if self.config.exploration == "random":
            return jax.random.uniform(key, mean.shape, mean.dtype, -1.0, 1.0)
        return tanh_gaussian.sample(mean, log_std, key)[0]


register_agent(
    AgentSpec(
        "gcbc", "goal-conditioned behavioural cloning", GCBCConfig, GCBC, offline={"likelihood": "constant_width"}
    )
)
