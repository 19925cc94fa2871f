"""C-learning (Eysenbach, Salakhutdinov and Levine, 2021): to know how likely a goal is to follow an action, train a
classifier, by temporal differences, to distinguish the states that follow from random ones.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.base import Optimizers, Probe
from kilolayer.agents.core.behaviour_cloning import CloningConfig
from kilolayer.agents.core.checks import (
    check_counts,
    check_discount,
    check_finite,
    check_not_negative,
    check_positive,
    check_share,
)
from kilolayer.agents.core.gaussian_policy import policy
from kilolayer.agents.core.interface import Metrics
from kilolayer.agents.core.random_goal_actor import RandomGoalActor, has_next, random_goals
from kilolayer.agents.core.registry import AgentSpec, register_agent
from kilolayer.agents.core.twin_critic import polyak_update
from kilolayer.data import ReplayBuffer, Transitions
from kilolayer.nn import Torso
from kilolayer.objectives import mean_where, tanh_gaussian

Scalar = Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class CLearningConfig(CloningConfig):
    """Settings of C-learning."""

    discount: float = 0.99
    """A future state is one k steps ahead with probability (1 - discount) discount^(k - 1)."""
    target_rate: float = 0.005
    """How far the target classifier moves towards the classifier in a gradient step."""
    max_weight: float = 20.0
    """Largest importance weight of a random goal; a state that is a likelier future than this many times its share of
    the buffer is taken for one that is this likely."""
    hindsight: float = 0.5
    """Share of the actor's goals that its own episode achieves later; the others are random achieved goals."""
    actor_depth: int | None = None
    """Depth of the actor; None takes the depth of all networks."""
    critic_depth: int | None = None
    """Depth of the classifier; None takes the depth of all networks."""
    actor_width: int | None = None
    """Width of the actor; None takes the width of all networks."""
    critic_width: int | None = None
    """Width of the classifier; None takes the width of all networks."""
    actor_learning_rate: float = 3e-4
    """Learning rate of the actor."""
    critic_learning_rate: float = 3e-4
    """Learning rate of the classifier."""
    alpha_learning_rate: float = 3e-4
    """Adam step size of the entropy coefficient's logarithm; 0 keeps it where it begins."""
    initial_alpha: float = 1.0
    """Entropy coefficient at the start."""
    target_entropy: float = -0.5
    """Entropy that the policy is held at, for each action dimension."""
    candidates: int = 16
    """Samples that best_of action selection chooses among."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        check_finite(self)
        check_discount(self, one_is_valid=False)
        check_share(self, "target_rate", "hindsight")
        check_positive(
            self, "target_rate", "max_weight", "actor_learning_rate", "critic_learning_rate", "initial_alpha"
        )
        check_not_negative(self, "alpha_learning_rate")
        check_counts(self, "actor_width", "critic_width", "candidates")
        self.check_cloning()


class CLearningState(eqx.Module):
    """The state of a C-learning agent; its critic is the classifier."""

    actor: Torso
    critic: Torso
    target_critic: Torso
    log_alpha: Scalar
    optimizers: Optimizers


@dataclasses.dataclass(frozen=True)
class CLearning(RandomGoalActor):
    """C-learning for continuous actions.

    The classifier puts out the log odds of C(s, a, g), that g is a future state rather than a random one; where it is
    right, they are log p(g | s, a) - log p(g), whatever the goal. There is one, as in the paper's equations; the lower
    of two, as TD3 takes it against overestimation, would lower every weight.
    """

    config: CLearningConfig = CLearningConfig()

    # ---- Networks and optimisers ---------------------------------------------------------------------------------

    def init(self, key: PRNGKeyArray) -> CLearningState:
        """Return the state of a new agent; the target classifier begins as the classifier."""
        actor_key, critic_key = jax.random.split(key)
        critic = self.network("critic", self.observation_size + self.action_size + self.goal_size, 1, critic_key)
        actor, log_alpha = self.new_actor(actor_key)
        return CLearningState(
            actor=actor,
            critic=critic,
            target_critic=jax.tree.map(jnp.copy, critic),
            log_alpha=log_alpha,
            optimizers=self.init_optimizers(actor=actor, critic=critic, alpha=log_alpha),
        )

    def networks(self, state: CLearningState) -> dict[str, Torso]:
        """Return the actor and the classifier."""
        return {"actor": state.actor, "classifier": state.critic}

    # ---- Acting --------------------------------------------------------------------------------------------------

    def score(
        self,
        critic: Torso,
        observation: Float[Array, "*batch observation"],
        action: Float[Array, "*batch action"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return the log odds of C(s, a, g).

        The paper's actor climbs log C. It rises with the log odds, but stands still where the classifier is sure, which
        is near the goal, and there nothing would be left to weigh against the entropy.
        """
        return critic(jnp.concatenate([observation, action, desired_goal], axis=-1))[..., 0]

    def value(
        self,
        state: CLearningState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return the log odds of C(s, a, g) at the policy's deterministic action."""
        mean, _ = policy(state.actor, observation, desired_goal)
        return self.score(state.critic, observation, tanh_gaussian.mode(mean), desired_goal)

    # ---- Learning ------------------------------------------------------------------------------------------------

    def weights(self, state: CLearningState, batch: Transitions, key: PRNGKeyArray) -> Float[Array, " batch"]:
        """Return w = C / (1 - C) of next state, action and random goal by the target classifier.

        The action is drawn from the policy for the random goal. Where the weight is right, it is how much likelier the
        goal is to follow the next state than to be drawn at random. Nothing follows a failure.
        """
        goal = random_goals(batch)
        mean, log_std = policy(state.actor, batch.next_observation, goal)
        action, _ = tanh_gaussian.sample(mean, log_std, key)
        odds = jnp.exp(self.score(state.target_critic, batch.next_observation, action, goal))
        return jnp.where(batch.terminated, 0.0, jnp.minimum(odds, self.config.max_weight))

    def critic_loss(self, critic: Torso, batch: Transitions, weights: Float[Array, " batch"]) -> tuple[Scalar, Metrics]:
        """Return minus the off-policy objective of the paper.

        (1 - discount) log C(s, a, s') + discount * w log C(s, a, g) + log(1 - C(s, a, g)), where s' stands for what the
        next state achieves, g is random, and no gradient enters w.
        """
        discount, weights = self.config.discount, jax.lax.stop_gradient(weights)
        at_next = self.score(critic, batch.observation, batch.action, batch.next_achieved_goal)
        at_random = self.score(critic, batch.observation, batch.action, random_goals(batch))
        objective = (
            (1.0 - discount) * jnp.where(batch.terminated, 0.0, jax.nn.log_sigmoid(at_next))
            + discount * weights * jax.nn.log_sigmoid(at_random)
            + jax.nn.log_sigmoid(-at_random)
        )
        loss = -mean_where(batch.known, objective)
        return loss, {
            "critic_loss": loss,
            "logits_next": mean_where(has_next(batch), at_next),
            "logits_random": mean_where(batch.known, at_random),
            "importance_weight": mean_where(has_next(batch), weights),
        }

    def learn(self, state: CLearningState, batch: Transitions, key: PRNGKeyArray) -> tuple[CLearningState, Metrics]:
        """Take one gradient step on `batch`: classifier, actor and alpha with the old one, target classifier."""
        weight_key, actor_key = jax.random.split(key)
        gradient, critic_metrics = jax.grad(self.critic_loss, has_aux=True)(
            state.critic, batch, self.weights(state, batch, weight_key)
        )
        critic, optimizers = self.descend("critic", state.critic, gradient, state.optimizers)
        actor, log_alpha, optimizers, actor_metrics = self.learn_actor(state, batch, optimizers, actor_key)
        new_state = CLearningState(
            actor=actor,
            critic=critic,
            target_critic=polyak_update(state.target_critic, critic, self.config.target_rate),
            log_alpha=log_alpha,
            optimizers=optimizers,
        )
        return new_state, actor_metrics | critic_metrics

    # ---- Diagnostics ---------------------------------------------------------------------------------------------

    def probes(self, state: CLearningState, data: ReplayBuffer, key: PRNGKeyArray) -> dict[str, Probe]:
        """Return actor and classifier with the gradients of their losses on a batch."""
        sample_key, weight_key, actor_key = jax.random.split(key, 3)
        batch = self.draw(data, sample_key)
        critic_gradient, _ = jax.grad(self.critic_loss, has_aux=True)(
            state.critic, batch, self.weights(state, batch, weight_key)
        )
        actor_gradient, _ = jax.grad(self.actor_loss, has_aux=True)(
            state.actor, state.critic, jnp.exp(state.log_alpha), batch, actor_key
        )
        critic_input = jnp.concatenate([batch.observation, batch.action, random_goals(batch)], axis=-1)
        actor_input = jnp.concatenate([batch.observation, self.actor_goals(batch)], axis=-1)
        return {
            "actor": Probe(state.actor, actor_gradient, actor_input),
            "classifier": Probe(state.critic, critic_gradient, critic_input),
        }


register_agent(
    AgentSpec(
        "c_learning",
        "C-learning: classify future states, by temporal differences",
        CLearningConfig,
        CLearning,
        offline={"behaviour_cloning": 0.1},
    )
)
