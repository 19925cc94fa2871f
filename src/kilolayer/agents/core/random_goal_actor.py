"""What C-learning and quasimetric RL share: goals that any episode achieved, and a tanh-Gaussian actor for them."""

import dataclasses
import functools
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.agents.core.base import DeepAgent, Optimizers
from kilolayer.agents.core.behaviour_cloning import climb_and_clone
from kilolayer.agents.core.gaussian_policy import alpha_loss, choose, policy, scored_by
from kilolayer.agents.core.interface import ActionMode, AgentState, Metrics
from kilolayer.data import ReplayBuffer, Transitions, sample_transitions
from kilolayer.errors import ConfigurationError
from kilolayer.nn import Torso
from kilolayer.objectives import tanh_gaussian

Scalar = Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class RandomGoalActor(DeepAgent):
    """A learner without rewards whose critic must know every pair of a state and a goal, not only those of one episode.

    An agent adds `score`, how good its critic finds an action. Its `config` is a `CloningConfig`; its state has
    `actor`, `critic`, `log_alpha` and `optimizers`.
    """

    has_action_value: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Validate sizes.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        super().__post_init__()
        if self.batch_size < 2:
            raise ConfigurationError("batch_size=1 leaves no goals of other states; take at least 2")

    def score(
        self,
        critic: Any,
        observation: Float[Array, "*batch observation"],
        action: Float[Array, "*batch action"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return how good the critic finds an action: larger is better."""
        raise NotImplementedError

    def action_value(
        self,
        state: AgentState,
        observation: Float[Array, "*batch observation"],
        action: Float[Array, "*batch action"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return how good the critic finds an action: larger is better."""
        return self.score(state.critic, observation, action, desired_goal)

    @property
    def target_entropy(self) -> float:
        """Entropy that the policy is held at."""
        return self.config.target_entropy * self.action_size

    # ---- Goals ---------------------------------------------------------------------------------------------------

    def draw(self, buffer: ReplayBuffer, key: PRNGKeyArray) -> Transitions:
        """Draw transitions from the whole buffer; their desired goals are achieved later in the same episode."""
        return sample_transitions(buffer, (self.batch_size,), key, relabeled=1.0)

    def actor_goals(self, batch: Transitions) -> Float[Array, "batch goal"]:
        """Return the goals that the actor learns to reach: a share of `hindsight` is hindsight's, the rest random."""
        rows = jnp.arange(batch.observation.shape[0])
        in_hindsight = rows < round(self.config.hindsight * len(rows))
        return jnp.where(in_hindsight[:, None], batch.desired_goal, random_goals(batch))

    # ---- The actor -----------------------------------------------------------------------------------------------

    def new_actor(self, key: PRNGKeyArray) -> tuple[Torso, Scalar]:
        """Return a new actor and the logarithm of its entropy coefficient."""
        actor = self.network("actor", self.observation_size + self.goal_size, 2 * self.action_size, key)
        return actor, jnp.full((), math.log(self.config.initial_alpha), jnp.float32)

    def act(
        self,
        state: AgentState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
        mode: ActionMode = "deterministic",
    ) -> Float[Array, "*batch action"]:
        """Return actions in [-1, 1]: tanh(mean), a draw, or the best of `candidates` draws by the critic.

        Raises:
            ConfigurationError: for an unknown mode.
        """
        mean, log_std = policy(state.actor, observation, desired_goal)
        score = scored_by(functools.partial(self.score, state.critic), observation, desired_goal)
        return choose(mean, log_std, key, mode, candidates=self.config.candidates, score=score)

    def actor_loss(
        self, actor: Torso, critic: Any, alpha: Scalar, batch: Transitions, key: PRNGKeyArray
    ) -> tuple[Scalar, Metrics]:
        """Return the mean of alpha log pi(a | s, g) - score(s, a, g), a drawn from the policy; with a weight on
        imitating the data, the loss of `climb_and_clone`.
        """
        goal, clones = self.actor_goals(batch), self.config.clones
        mean, log_std = policy(actor, batch.observation, goal)
        action, log_density = tanh_gaussian.sample(mean, log_std, key)
        action = tanh_gaussian.mode(mean) if clones else action
        value = self.score(critic, batch.observation, action, goal)
        if clones:
            loss, metrics = climb_and_clone(mean, value, batch.action, self.config.behaviour_cloning)
            return loss, {**metrics, "entropy": -jnp.mean(log_density)}
        loss = jnp.mean(alpha * log_density - value)
        return loss, {"actor_loss": loss, "entropy": -jnp.mean(log_density), "actor_value": jnp.mean(value)}

    def learn_actor(
        self, state: AgentState, batch: Transitions, optimizers: Optimizers, key: PRNGKeyArray
    ) -> tuple[Torso, Scalar, Optimizers, Metrics]:
        """Take one gradient step of actor and alpha, with the critic as it is in `state`.

        Returns:
            The actor, the logarithm of alpha, the states of all optimisers, and metrics.
        """
        alpha = jnp.exp(state.log_alpha)
        gradient, metrics = jax.grad(self.actor_loss, has_aux=True)(state.actor, state.critic, alpha, batch, key)
        actor, optimizers = self.descend("actor", state.actor, gradient, optimizers)

        if self.config.clones:
            return actor, state.log_alpha, optimizers, metrics
        # Raise alpha where the entropy is below its target, lower it where it is above.
        alpha_gradient = jax.grad(alpha_loss)(state.log_alpha, metrics["entropy"], self.target_entropy)
        log_alpha, optimizers = self.descend("alpha", state.log_alpha, alpha_gradient, optimizers)
        return actor, log_alpha, optimizers, metrics | {"alpha": alpha}

    # ---- Learning ------------------------------------------------------------------------------------------------

    def learn(self, state: AgentState, batch: Transitions, key: PRNGKeyArray) -> tuple[AgentState, Metrics]:
        """Take one gradient step on `batch`."""
        raise NotImplementedError

    def update(self, state: AgentState, data: ReplayBuffer, key: PRNGKeyArray) -> tuple[AgentState, Metrics]:
        """Draw transitions from the whole buffer and learn from them."""
        sample_key, learn_key = jax.random.split(key)
        return self.learn(state, self.draw(data, sample_key), learn_key)


def random_goals(batch: Transitions) -> Float[Array, "batch goal"]:
    """Return for every transition what another one achieved: as the draws are independent, a goal drawn at random."""
    return jnp.roll(batch.next_achieved_goal, 1, axis=0)


def has_next(batch: Transitions) -> Bool[Array, " batch"]:
    """Return which transitions have a known next state."""
    return batch.known & ~batch.terminated
