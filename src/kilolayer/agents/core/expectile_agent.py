"""What GCIVL and GCIQL share: goals, a policy of constant width, and two values that learn expectiles.

The reward of a step is -1, and 0 where the goal is what its state achieves, from which nothing is counted on: a value
is minus the discounted steps to the goal. No success of the task is asked for.
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.base import DeepAgent
from kilolayer.agents.core.checks import (
    check_counts,
    check_discount,
    check_finite,
    check_not_negative,
    check_positive,
    check_share,
)
from kilolayer.agents.core.gaussian_policy import policy_input
from kilolayer.agents.core.interface import ActionMode, AgentState, Metrics, check_action_mode
from kilolayer.data import GoalShares, GoalTransitions, ReplayBuffer, sample_goal_transitions
from kilolayer.errors import ConfigurationError
from kilolayer.nn import Torso, call_together
from kilolayer.objectives import mean_where

Scalar = Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class ExpectileConfig:
    """Settings that GCIVL and GCIQL share; the defaults are those of OGBench."""

    discount: float = 0.99
    """Weight of a step one step later; a goal k steps ahead is drawn with weight discount^k."""
    expectile: float = 0.9
    """Of the value: 0.5 is the mean over what the data do, 1 the best of it."""
    target_rate: float = 0.005
    """How far a target network moves towards its network in every step."""
    own_goals: float = 0.2
    """Share of the value's goals that the state itself achieves."""
    random_goals: float = 0.3
    """Share of the value's goals of any row; the others are of the same episode."""
    exploration_noise: float = 0.1
    """Standard deviation of the noise on actions while data are collected; actions span -1 to 1."""
    actor_depth: int | None = None
    """Depth of the actor; None takes the depth of all networks."""
    critic_depth: int | None = None
    """Depth of the values; None takes the depth of all networks."""
    actor_width: int | None = None
    """Width of the actor; None takes the width of all networks."""
    critic_width: int | None = None
    """Width of the values; None takes the width of all networks."""
    actor_learning_rate: float = 3e-4
    """Learning rate of the actor."""
    critic_learning_rate: float = 3e-4
    """Learning rate of the values."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        check_finite(self)
        check_discount(self, one_is_valid=False)
        check_share(self, "target_rate", "own_goals", "random_goals")
        check_positive(self, "target_rate", "actor_learning_rate", "critic_learning_rate")
        check_not_negative(self, "exploration_noise")
        check_counts(self, "actor_width", "critic_width")
        if not 0.0 < self.expectile < 1.0:
            raise ConfigurationError(f"expectile={self.expectile} must be above 0 and below 1")
        if self.own_goals + self.random_goals > 1.0:
            raise ConfigurationError(
                f"own_goals={self.own_goals} and random_goals={self.random_goals} must be at most 1 together"
            )


class StateValues(eqx.Module):
    """Two estimates of V(s, g)."""

    first: Torso
    second: Torso

    def __call__(
        self, observation: Float[Array, "*batch observation"], goal: Float[Array, "*batch goal"]
    ) -> Float[Array, "2 *batch"]:
        """Return both estimates."""
        inputs = policy_input(observation, goal)
        return jnp.stack([v[..., 0] for v in call_together([(self.first, inputs), (self.second, inputs)])])


@dataclasses.dataclass(frozen=True)
class ExpectileAgent(DeepAgent):
    """A learner of expectiles. Its state has `actor`, `optimizers` and its values; `config` is an `ExpectileConfig`."""

    PARTS: ClassVar[tuple[str, ...]] = ("actor", "critic")

    # ---- Networks ------------------------------------------------------------------------------------------------

    def new_actor(self, key: PRNGKeyArray) -> Torso:
        """Return a new actor: its outputs are the deterministic action before the tanh."""
        return self.network("actor", self.observation_size + self.goal_size, self.action_size, key)

    def new_value(self, key: PRNGKeyArray) -> Torso:
        """Return a new estimate of V(s, g)."""
        return self.network("critic", self.observation_size + self.goal_size, 1, key)

    # ---- Acting --------------------------------------------------------------------------------------------------

    def act(
        self,
        state: AgentState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
        mode: ActionMode = "deterministic",
    ) -> Float[Array, "*batch action"]:
        """Return actions in [-1, 1]: the actor's own, or one with noise.

        Raises:
            ConfigurationError: for an unknown mode, and for `best_of`.
        """
        check_action_mode(mode, has_critic=False)
        action = jnp.tanh(state.actor(policy_input(observation, desired_goal)))
        if mode == "deterministic":
            return action
        noise = self.config.exploration_noise * jax.random.normal(key, action.shape, action.dtype)
        return jnp.clip(action + noise, -1.0, 1.0)

    # ---- Learning ------------------------------------------------------------------------------------------------

    def draw(self, buffer: ReplayBuffer, key: PRNGKeyArray) -> GoalTransitions:
        """Draw transitions with goals from the whole buffer."""
        config = self.config
        shares = GoalShares(config.discount, own=config.own_goals, random=config.random_goals)
        return sample_goal_transitions(buffer, self.batch_size, shares, key)

    def backup(self, batch: GoalTransitions, next_value: Float[Array, " batch"]) -> Float[Array, " batch"]:
        """Return r + discount V(s', g): 0 at the goal, and after a failure what never reaching it is worth."""
        never = -1.0 / (1.0 - self.config.discount)
        onwards = -1.0 + self.config.discount * jnp.where(batch.terminated, never, next_value)
        return jnp.where(batch.reached, 0.0, onwards)

    def learn(self, state: AgentState, batch: GoalTransitions, key: PRNGKeyArray) -> tuple[AgentState, Metrics]:
        """Take one gradient step on `batch`."""
        raise NotImplementedError

    def update(self, state: AgentState, data: ReplayBuffer, key: PRNGKeyArray) -> tuple[AgentState, Metrics]:
        """Draw transitions from the whole buffer and learn from them."""
        sample_key, learn_key = jax.random.split(key)
        return self.learn(state, self.draw(data, sample_key), learn_key)


def mean_known(batch: GoalTransitions, values: Float[Array, " batch"]) -> Scalar:
    """Return the mean over the transitions whose next state is known."""
    return mean_where(batch.known, values)
