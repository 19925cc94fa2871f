"""Contrastive RL (Eysenbach et al., 2022) with deep residual networks, as "1000 Layer Networks for Self-Supervised RL"
(Wang et al., NeurIPS 2025) trains it. Read it beside the paper's section 3: the critic and its loss, which discrete
actions share, are in `kilolayer.agents.core.contrastive_critic`; the actor, the entropy and the order of steps are
here.
"""

import dataclasses
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.base import Probe, adam
from kilolayer.agents.core.checks import (
    check_choice,
    check_counts,
    check_discount,
    check_finite,
    check_not_negative,
    check_positive,
)
from kilolayer.agents.core.contrastive_critic import ContrastiveAgent, Critic, Embeddings, Scalar
from kilolayer.agents.core.gaussian_policy import alpha_loss, choose, policy
from kilolayer.agents.core.interface import ActionMode, Metrics
from kilolayer.data import Batch, ReplayBuffer
from kilolayer.nn import Torso
from kilolayer.objectives import Energy, EnergyName, LossName, loss_function, tanh_gaussian

ActorGoals = Literal["hindsight", "resampled"]

DEAL = 2**32 - 1
"""Folded into the key of the actor's loss to deal out goals: the noise of its actions does not come that far."""


@dataclasses.dataclass(frozen=True)
class CRLConfig:
    """Settings of contrastive RL; the defaults are the paper's."""

    energy: EnergyName = "l2"
    """Similarity of two embeddings: l2 (minus the distance), squared_l2, dot or cosine."""
    temperature: float | None = None
    """Divisor of the energy; None takes 1, and 0.1 for cosine."""
    loss: LossName = "infonce_forward"
    """Contrastive loss of the critic."""
    logsumexp_penalty: float = 0.1
    """Weight of the mean squared logsumexp of the logits."""
    discount: float = 0.99
    """A goal k steps ahead is drawn with weight discount^k."""
    trajectory_repeats: int = 1
    """State-actions of the same episode in a batch, each a negative for the others (Contrastive Representations for
    Temporal Reasoning, 2025); it divides the batch size. 1 draws every one for itself."""
    representation_size: int = 64
    """Numbers in an embedding."""
    actor_depth: int | None = None
    """Depth of the actor; None takes --depth."""
    critic_depth: int | None = None
    """Depth of the encoders of the critic; None takes --depth."""
    goal_encoder_depth: int | None = None
    """Depth of the goal encoder psi; None takes the critic's."""
    actor_width: int | None = None
    """Width of the actor; None takes --width."""
    critic_width: int | None = None
    """Width of both encoders of the critic; None takes --width."""
    actor_learning_rate: float = 3e-4
    """Adam step size of the actor."""
    critic_learning_rate: float = 3e-4
    """Adam step size of the critic."""
    alpha_learning_rate: float = 3e-4
    """Adam step size of the entropy coefficient's logarithm."""
    target_entropy: float = -0.5
    """Entropy that the policy is held at, for each action dimension; with a chunk, of each of its actions."""
    actor_goals: ActorGoals = "hindsight"
    """Goals of the actor's loss: each state's own hindsight goal, or those of the batch dealt out anew."""
    action_chunk: int = 1
    """Actions that actor and critic see at once, of which the first is executed (action-chunked CRL, 2026); at most the
    episode's length."""
    candidates: int = 16
    """Draws that best_of action selection chooses among."""

    def __post_init__(self) -> None:
        """Refuse values that cannot be.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        check_finite(self)
        Energy(self.energy, self.temperature)
        loss_function(self.loss)
        check_discount(self, one_is_valid=True)
        check_not_negative(self, "logsumexp_penalty")
        check_positive(self, "actor_learning_rate", "critic_learning_rate", "alpha_learning_rate")
        check_choice(self, "actor_goals", get_args(ActorGoals))
        check_counts(self, "representation_size", "candidates", "actor_width", "critic_width")
        check_counts(self, "action_chunk", "trajectory_repeats")


class CRLState(eqx.Module):
    """Everything that a CRL agent has learnt."""

    actor: Torso
    critic: Critic
    log_alpha: Scalar
    actor_optimizer: optax.OptState
    critic_optimizer: optax.OptState
    alpha_optimizer: optax.OptState


@dataclasses.dataclass(frozen=True)
class CRL(ContrastiveAgent):
    """Contrastive RL for continuous actions.

    The critic learns, from what happened alone, which goals follow which actions; the actor learns to act so that its
    hindsight goals follow. No reward is used.
    """

    PARTS = ("actor", "critic", "goal_encoder")

    config: CRLConfig = CRLConfig()

    # ---- Networks and optimisers ---------------------------------------------------------------------------------

    @property
    def target_entropy(self) -> float:
        """Entropy that the policy is held at."""
        return self.config.target_entropy * self.chunk_size

    def init(self, key: PRNGKeyArray) -> CRLState:
        """Draw a new agent: pi(s, g), phi(s, a), psi(g), and alpha = 1."""
        actor_key, phi_key, psi_key = jax.random.split(key, 3)
        config = self.config
        critic = self.new_critic(phi_key, psi_key)
        # One head of twice the action size is the paper's two heads, mean and log_std, side by side.
        actor = self.network("actor", self.observation_size + self.goal_size, 2 * self.chunk_size, actor_key)
        log_alpha = jnp.zeros(())
        return CRLState(
            actor=actor,
            critic=critic,
            log_alpha=log_alpha,
            actor_optimizer=optax.adam(config.actor_learning_rate).init(actor),
            critic_optimizer=optax.adam(config.critic_learning_rate).init(critic),
            alpha_optimizer=optax.adam(config.alpha_learning_rate).init(log_alpha),
        )

    def networks(self, state: CRLState) -> dict[str, Torso]:
        """Return actor, phi and psi."""
        return {"actor": state.actor, "phi": state.critic.phi, "psi": state.critic.psi}

    # ---- Acting --------------------------------------------------------------------------------------------------

    def actor(self, state: CRLState) -> Torso:
        """Return the policy's network; it puts out the means first, then the raw log standard deviations.

        With action chunks, the means of the first action, which is the one that is executed, are the very first.
        """
        return state.actor

    def act(
        self,
        state: CRLState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
        mode: ActionMode = "deterministic",
    ) -> Float[Array, "*batch action"]:
        """Choose actions in [-1, 1]: tanh(mean), a draw, or the best of `candidates` draws by the critic.

        With action chunks, a chunk is chosen, and its first action returned.

        Raises:
            ConfigurationError: for an unknown mode.
        """
        mean, log_std = policy(state.actor, observation, desired_goal)

        def score(actions: Array) -> Array:
            phi = state.critic.encode_state_action(
                jnp.broadcast_to(observation, (*actions.shape[:-1], self.observation_size)), actions
            )
            return self.energy.pairs(phi, jnp.broadcast_to(state.critic.encode_goal(desired_goal), phi.shape))

        chunk = choose(mean, log_std, key, mode, candidates=self.config.candidates, score=score)
        return chunk[..., : self.action_size]

    def value(
        self,
        state: CRLState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return f(s, a, g) at the policy's deterministic action."""
        mean, _ = policy(state.actor, observation, desired_goal)
        phi = state.critic.encode_state_action(observation, tanh_gaussian.mode(mean))
        return self.energy.pairs(phi, state.critic.encode_goal(desired_goal))

    # ---- Learning ------------------------------------------------------------------------------------------------

    def goals_to_reach(
        self, batch: Batch, psi: Embeddings, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch goal"], Embeddings]:
        """Return the goals of the actor's loss, and psi(g) of each."""
        if self.config.actor_goals == "hindsight":
            return batch.desired_goal, psi
        order = jax.random.permutation(jax.random.fold_in(key, DEAL), psi.shape[0])
        return batch.desired_goal[order], psi[order]

    def actor_loss(
        self, actor: Torso, critic: Critic, psi: Embeddings, alpha: Scalar, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Scalar, Metrics]:
        """Reach the goal, and stay random: mean of alpha log pi(a | s, g) - f(s, a, g) (method 1.3)."""
        desired_goal, psi = self.goals_to_reach(batch, psi, key)
        mean, log_std = policy(actor, batch.observation, desired_goal)
        action, log_density = tanh_gaussian.sample(mean, log_std, key)
        phi = critic.encode_state_action(batch.observation, action)
        value = self.energy.pairs(phi, psi)
        loss = jnp.mean(alpha * log_density - value)
        return loss, {"actor_loss": loss, "entropy": -jnp.mean(log_density), "actor_value": jnp.mean(value)}

    def learn(self, state: CRLState, batch: Batch, key: PRNGKeyArray) -> tuple[CRLState, Metrics]:
        """Take one gradient step on `batch`, all losses with the old critic; its psi(g) serves critic and actor."""
        config = self.config

        critic_gradient, (psi, critic_metrics) = jax.grad(self.critic_loss, has_aux=True)(state.critic, batch)
        critic, critic_optimizer = adam(
            config.critic_learning_rate, state.critic, critic_gradient, state.critic_optimizer
        )

        alpha = jnp.exp(state.log_alpha)
        actor_gradient, actor_metrics = jax.grad(self.actor_loss, has_aux=True)(
            state.actor, state.critic, psi, alpha, batch, key
        )
        actor, actor_optimizer = adam(config.actor_learning_rate, state.actor, actor_gradient, state.actor_optimizer)

        # Raise alpha where the entropy is below its target, lower it where it is above.
        loss, alpha_gradient = jax.value_and_grad(alpha_loss)(
            state.log_alpha, actor_metrics["entropy"], self.target_entropy
        )
        log_alpha, alpha_optimizer = adam(
            config.alpha_learning_rate, state.log_alpha, alpha_gradient, state.alpha_optimizer
        )

        new_state = CRLState(
            actor=actor,
            critic=critic,
            log_alpha=log_alpha,
            actor_optimizer=actor_optimizer,
            critic_optimizer=critic_optimizer,
            alpha_optimizer=alpha_optimizer,
        )
        return new_state, actor_metrics | critic_metrics | {"alpha_loss": loss, "alpha": alpha}

    def update(self, state: CRLState, data: ReplayBuffer, key: PRNGKeyArray) -> tuple[CRLState, Metrics]:
        """Draw a batch of state-actions with hindsight goals from the whole buffer and learn from it."""
        sample_key, learn_key = jax.random.split(key)
        return self.learn(state, self.draw(data, sample_key), learn_key)

    # ---- Looking inside ------------------------------------------------------------------------------------------

    def probes(self, state: CRLState, data: ReplayBuffer, key: PRNGKeyArray) -> dict[str, Probe]:
        """Return actor, phi and psi with the gradients of their losses on a batch."""
        sample_key, learn_key = jax.random.split(key)
        batch = self.draw(data, sample_key)
        critic = state.critic
        critic_gradient, (psi, _) = jax.grad(self.critic_loss, has_aux=True)(critic, batch)
        alpha = jnp.exp(state.log_alpha)
        actor_gradient, _ = jax.grad(self.actor_loss, has_aux=True)(state.actor, critic, psi, alpha, batch, learn_key)
        desired_goal, _ = self.goals_to_reach(batch, psi, learn_key)
        actor_input = jnp.concatenate([batch.observation, desired_goal], axis=-1)
        actor_probe = Probe(state.actor, actor_gradient, actor_input)
        return {"actor": actor_probe, **self.critic_probes(critic, critic_gradient, batch)}
