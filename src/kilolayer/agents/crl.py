"""Contrastive RL (Eysenbach et al., 2022) with deep residual networks, as "1000 Layer Networks for Self-Supervised RL"
(Wang et al., NeurIPS 2025) trains it. Read it beside the paper's section 3, or sections 1.2 and 1.3 of the method.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.agent import ActionMode, Diagnostics, Metrics
from kilolayer.agents.checks import check_counts, check_discount, check_finite, check_not_negative, check_positive
from kilolayer.agents.deep_agent import DeepAgent, Probe, adam
from kilolayer.agents.gaussian_policy import alpha_loss, choose, policy
from kilolayer.errors import ConfigurationError
from kilolayer.nn import (
    Energy,
    EnergyName,
    LossName,
    ResidualMLP,
    contrastive_metrics,
    effective_rank,
    logsumexp_penalty,
    loss_function,
    spread,
    tanh_gaussian,
)
from kilolayer.replay import Batch, ReplayBuffer, sample_hindsight

Scalar = Float[Array, ""]
Embeddings = Float[Array, "batch representation"]


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
    representation_size: int = 64
    """Numbers in an embedding."""
    actor_depth: int | None = None
    """Depth of the actor; None takes --depth."""
    critic_depth: int | None = None
    """Depth of both encoders of the critic; None takes --depth."""
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
    """Entropy that the policy is held at, for each action dimension."""
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
        check_counts(self, "representation_size", "candidates", "actor_width", "critic_width")


class Critic(eqx.Module):
    """The two encoders: f(s, a, g) is the energy of phi(s, a) and psi(g)."""

    phi: ResidualMLP
    psi: ResidualMLP

    def encode_state_action(
        self, observation: Float[Array, "*batch observation"], action: Float[Array, "*batch action"]
    ) -> Float[Array, "*batch representation"]:
        """Return phi(s, a)."""
        return self.phi(jnp.concatenate([observation, action], axis=-1))

    def encode_goal(self, goal: Float[Array, "*batch goal"]) -> Float[Array, "*batch representation"]:
        """Return psi(g)."""
        return self.psi(goal)


class CRLState(eqx.Module):
    """Everything that a CRL agent has learnt."""

    actor: ResidualMLP
    critic: Critic
    log_alpha: Scalar
    actor_optimizer: optax.OptState
    critic_optimizer: optax.OptState
    alpha_optimizer: optax.OptState


@dataclasses.dataclass(frozen=True)
class CRL(DeepAgent):
    """Contrastive RL for continuous actions.

    The critic learns, from what happened alone, which goals follow which actions; the actor learns to act so that its
    hindsight goals follow. No reward is used.
    """

    config: CRLConfig = CRLConfig()

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        super().__post_init__()
        if self.batch_size < 2:
            raise ConfigurationError("batch_size=1 leaves contrastive RL no negatives; take at least 2")

    # ---- Networks and optimisers ---------------------------------------------------------------------------------

    @property
    def energy(self) -> Energy:
        """The similarity of two embeddings."""
        return Energy(self.config.energy, self.config.temperature)

    @property
    def target_entropy(self) -> float:
        """Entropy that the policy is held at."""
        return self.config.target_entropy * self.action_size

    def init(self, key: PRNGKeyArray) -> CRLState:
        """Draw a new agent: pi(s, g), phi(s, a), psi(g), and alpha = 1."""
        actor_key, phi_key, psi_key = jax.random.split(key, 3)
        config = self.config
        state_action_size, embedding_size = self.observation_size + self.action_size, config.representation_size
        critic = Critic(
            phi=self.network("critic", state_action_size, embedding_size, phi_key),
            psi=self.network("critic", self.goal_size, embedding_size, psi_key),
        )
        # One head of twice the action size is the paper's two heads, mean and log_std, side by side.
        actor = self.network("actor", self.observation_size + self.goal_size, 2 * self.action_size, actor_key)
        log_alpha = jnp.zeros(())
        return CRLState(
            actor=actor,
            critic=critic,
            log_alpha=log_alpha,
            actor_optimizer=optax.adam(config.actor_learning_rate).init(actor),
            critic_optimizer=optax.adam(config.critic_learning_rate).init(critic),
            alpha_optimizer=optax.adam(config.alpha_learning_rate).init(log_alpha),
        )

    def networks(self, state: CRLState) -> dict[str, ResidualMLP]:
        """Return actor, phi and psi."""
        return {"actor": state.actor, "phi": state.critic.phi, "psi": state.critic.psi}

    # ---- Acting --------------------------------------------------------------------------------------------------

    def actor(self, state: CRLState) -> ResidualMLP:
        """Return the policy's network; it puts out the means first, then the raw log standard deviations."""
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

        Raises:
            ConfigurationError: for an unknown mode.
        """
        mean, log_std = policy(state.actor, observation, desired_goal)

        def score(actions: Array) -> Array:
            phi = state.critic.encode_state_action(
                jnp.broadcast_to(observation, (*actions.shape[:-1], self.observation_size)), actions
            )
            return self.energy.pairs(phi, jnp.broadcast_to(state.critic.encode_goal(desired_goal), phi.shape))

        return choose(mean, log_std, key, mode, candidates=self.config.candidates, score=score)

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

    def critic_loss(self, critic: Critic, batch: Batch) -> tuple[Scalar, tuple[Embeddings, Metrics]]:
        """Contrast each state-action's own future goal with the other goals of the batch (method 1.2).

        Returns:
            The loss, and beside it psi(g) of the batch, with the metrics.
        """
        phi = critic.encode_state_action(batch.observation, batch.action)
        psi = critic.encode_goal(batch.desired_goal)
        logits = self.energy.logits(phi, psi)
        contrastive = loss_function(self.config.loss)(logits)
        loss = contrastive + self.config.logsumexp_penalty * logsumexp_penalty(logits)
        return loss, (psi, {"critic_loss": loss, **contrastive_metrics(logits, phi, psi)})

    def actor_loss(
        self, actor: ResidualMLP, critic: Critic, psi: Embeddings, alpha: Scalar, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Scalar, Metrics]:
        """Reach the hindsight goal, and stay random: mean of alpha log pi(a | s, g) - f(s, a, g) (method 1.3)."""
        mean, log_std = policy(actor, batch.observation, batch.desired_goal)
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

    def draw(self, buffer: ReplayBuffer, key: PRNGKeyArray) -> Batch:
        """Draw state-actions with goals that their own episodes reach later."""
        return sample_hindsight(buffer, (self.batch_size,), self.config.discount, key)

    # ---- Looking inside ------------------------------------------------------------------------------------------

    def probes(self, state: CRLState, data: ReplayBuffer, key: PRNGKeyArray) -> dict[str, Probe]:
        """Return actor, phi and psi with the gradients of their losses on a batch."""
        sample_key, learn_key = jax.random.split(key)
        batch = self.draw(data, sample_key)
        critic = state.critic
        critic_gradient, (psi, _) = jax.grad(self.critic_loss, has_aux=True)(critic, batch)
        alpha = jnp.exp(state.log_alpha)
        actor_gradient, _ = jax.grad(self.actor_loss, has_aux=True)(state.actor, critic, psi, alpha, batch, learn_key)
        state_action = jnp.concatenate([batch.observation, batch.action], axis=-1)
        actor_input = jnp.concatenate([batch.observation, batch.desired_goal], axis=-1)
        return {
            "actor": Probe(state.actor, actor_gradient, actor_input),
            "phi": Probe(critic.phi, critic_gradient.phi, state_action),
            "psi": Probe(critic.psi, critic_gradient.psi, batch.desired_goal),
        }

    def diagnose(self, state: CRLState, buffer: ReplayBuffer, key: PRNGKeyArray) -> Diagnostics:
        """Look into the networks on a batch from the buffer; into the embeddings too."""
        probes = self.probes(state, buffer, key)
        found = self.describe(probes)
        for name in ("phi", "psi"):
            embeddings = probes[name].network(probes[name].inputs)
            found |= {f"{name}/effective_rank": effective_rank(embeddings), f"{name}/spread": spread(embeddings)}
        return found
