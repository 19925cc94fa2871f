"""Goal-conditioned supervised learning (Ghosh et al., 2021): collect with the policy, relabel every step with what its
episode reached later, imitate that, and collect again. `kilolayer.agents.core.imitation` holds the likelihood.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.checks import check_finite, check_not_negative, check_positive, check_share
from kilolayer.agents.core.imitation import ImitationAgent
from kilolayer.agents.core.registry import AgentSpec, register_agent
from kilolayer.objectives import tanh_gaussian


@dataclasses.dataclass(frozen=True)
class GCSLConfig:
    """Settings of goal-conditioned supervised learning."""

    actor_learning_rate: float = 3e-4
    """Learning rate of the actor."""
    exploration_noise: float = 0.1
    """Standard deviation of the Gaussian noise on the actions that data are collected with."""
    random_action: float = 0.1
    """Share of the steps in which data are collected with a uniform action instead."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        check_finite(self)
        check_positive(self, "actor_learning_rate")
        check_not_negative(self, "exploration_noise")
        check_share(self, "random_action")


@dataclasses.dataclass(frozen=True)
class GCSL(ImitationAgent):
    """Maximise the mean of log pi(a | s, g), g drawn evenly from what the episode reached after (s, a)."""

    config: GCSLConfig = GCSLConfig()

    @property
    def goal_discount(self) -> float:
        """Every later step of the episode is as likely as any other."""
        return 1.0

    def explore(
        self, mean: Float[Array, "*batch action"], log_std: Float[Array, "*batch action"], key: PRNGKeyArray
    ) -> Float[Array, "*batch action"]:
        """Draw from the policy, add noise, and now and then act at random altogether."""
        draw_key, noise_key, uniform_key, choice_key = jax.random.split(key, 4)
        action, _ = tanh_gaussian.sample(mean, log_std, draw_key)
        action = reflect(action + self.config.exploration_noise * jax.random.normal(noise_key, mean.shape, mean.dtype))
        uniform = jax.random.uniform(uniform_key, mean.shape, mean.dtype, -1.0, 1.0)
        at_random = jax.random.uniform(choice_key, mean.shape[:-1]) < self.config.random_action
        return jnp.where(at_random[..., None], uniform, action)


def reflect(action: Float[Array, "*batch action"]) -> Float[Array, "*batch action"]:
    """Fold actions beyond -1 and 1 back at these walls.

    Clipped actions would pile up at the walls, and a tanh-Gaussian that is to explain them goes there as a whole.
    """
    return 1.0 - jnp.abs(jnp.mod(action + 1.0, 4.0) - 2.0)


register_agent(AgentSpec("gcsl", "goal-conditioned supervised learning, iterated with exploration", GCSLConfig, GCSL))
