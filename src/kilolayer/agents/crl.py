"""Contrastive RL (Eysenbach et al., 2022) with deep residual networks, as "1000 Layer Networks for Self-Supervised RL"
(Wang et al., NeurIPS 2025) trains it. Read it beside the paper's section 3, or sections 1.2 and 1.3 of the method.
"""

import dataclasses
import math
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.agent import ActionMode, Diagnostics, Metrics, check_action_mode, count_parameters
from kilolayer.errors import ConfigurationError
from kilolayer.nn import (
    Architecture,
    Energy,
    EnergyName,
    LossName,
    ResidualMLP,
    block_statistics,
    contrastive_metrics,
    effective_rank,
    gradient_norms,
    logsumexp_penalty,
    loss_function,
    spread,
    tanh_gaussian,
)
from kilolayer.replay import Batch, ReplayBuffer, sample_hindsight

Scalar = Float[Array, ""]
Embeddings = Float[Array, "batch representation"]
Parameters = TypeVar("Parameters")


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
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigurationError(f"{field.name}={value} must be a finite number")
        Energy(self.energy, self.temperature)
        loss_function(self.loss)
        if not 0.0 < self.discount <= 1.0:
            raise ConfigurationError(f"discount={self.discount} must be above 0 and at most 1")
        if not self.logsumexp_penalty >= 0.0:
            raise ConfigurationError(f"logsumexp_penalty={self.logsumexp_penalty} must not be negative")
        for name in ("actor_learning_rate", "critic_learning_rate", "alpha_learning_rate"):
            if not getattr(self, name) > 0.0:
                raise ConfigurationError(f"{name}={getattr(self, name)} must be above 0")
        for name in ("representation_size", "candidates", "actor_width", "critic_width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"{name}={value} must be at least 1")


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
class CRL:
    """Contrastive RL for continuous actions.

    The critic learns, from what happened alone, which goals follow which actions; the actor learns to act so that its
    hindsight goals follow. No reward is used.
    """

    observation_size: int
    goal_size: int
    action_size: int
    batch_size: int = 512
    depth: int = 4
    width: int = 256
    architecture: Architecture = Architecture()
    config: CRLConfig = CRLConfig()

    def __post_init__(self) -> None:
        """Refuse depths, widths and batches that cannot be.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        for name in ("width", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name}={getattr(self, name)} must be at least 1")
        if self.batch_size < 2:
            raise ConfigurationError("batch_size=1 leaves contrastive RL no negatives; take at least 2")
        self.architecture.num_blocks(self.depth)
        for name in ("actor_depth", "critic_depth"):
            depth = getattr(self.config, name)
            if depth is not None:
                try:
                    self.architecture.num_blocks(depth)
                except ConfigurationError as error:
                    raise ConfigurationError(f"{name}: {error}") from None

    # ---- Networks and optimisers ---------------------------------------------------------------------------------

    @property
    def energy(self) -> Energy:
        """The similarity of two embeddings."""
        return Energy(self.config.energy, self.config.temperature)

    @property
    def architecture_in_force(self) -> Architecture:
        """The architecture, with what `auto` stands for here and with these sizes."""
        config = self.config
        depths, widths = (config.actor_depth, config.critic_depth), (config.actor_width, config.critic_width)
        return self.architecture.resolve(
            batch_size=self.batch_size,
            depth=max(self.depth if depth is None else depth for depth in depths),
            width=max(width or self.width for width in widths),
        )

    def init(self, key: PRNGKeyArray) -> CRLState:
        """Draw a new agent: pi(s, g), phi(s, a), psi(g), and alpha = 1."""
        actor_key, phi_key, psi_key = jax.random.split(key, 3)
        config = self.config

        def network(in_size: int, out_size: int, depth: int | None, width: int | None, key: Array) -> ResidualMLP:
            return ResidualMLP(
                in_size,
                out_size,
                depth=self.depth if depth is None else depth,
                width=self.width if width is None else width,
                architecture=self.architecture_in_force,
                key=key,
            )

        sizes = (config.critic_depth, config.critic_width)
        state_action_size = self.observation_size + self.action_size
        critic = Critic(
            phi=network(state_action_size, config.representation_size, *sizes, phi_key),
            psi=network(self.goal_size, config.representation_size, *sizes, psi_key),
        )
        # One head of twice the action size is the paper's two heads, mean and log_std, side by side.
        actor = network(
            self.observation_size + self.goal_size,
            2 * self.action_size,
            config.actor_depth,
            config.actor_width,
            actor_key,
        )
        log_alpha = jnp.zeros(())
        return CRLState(
            actor=actor,
            critic=critic,
            log_alpha=log_alpha,
            actor_optimizer=optax.adam(config.actor_learning_rate).init(actor),
            critic_optimizer=optax.adam(config.critic_learning_rate).init(critic),
            alpha_optimizer=optax.adam(config.alpha_learning_rate).init(log_alpha),
        )

    def parameter_counts(self) -> dict[str, int]:
        """Return how many parameters actor, phi and psi have."""
        state = jax.eval_shape(self.init, jax.random.key(0))
        networks = {"actor": state.actor, "phi": state.critic.phi, "psi": state.critic.psi}
        return {name: count_parameters(network) for name, network in networks.items()}

    # ---- Acting --------------------------------------------------------------------------------------------------

    def policy(
        self,
        actor: ResidualMLP,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> tuple[Float[Array, "*batch action"], Float[Array, "*batch action"]]:
        """Return mean and log standard deviation of pi(. | s, g), before the tanh."""
        mean, log_std = jnp.split(actor(jnp.concatenate([observation, desired_goal], axis=-1)), 2, axis=-1)
        return mean, tanh_gaussian.squash_log_std(log_std)

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
        check_action_mode(mode)
        mean, log_std = self.policy(state.actor, observation, desired_goal)
        if mode == "deterministic":
            return tanh_gaussian.mode(mean)
        if mode == "stochastic":
            return tanh_gaussian.sample(mean, log_std, key)[0]
        candidates = (self.config.candidates, *mean.shape)
        actions, _ = tanh_gaussian.sample(
            jnp.broadcast_to(mean, candidates), jnp.broadcast_to(log_std, candidates), key
        )
        phi = state.critic.encode_state_action(
            jnp.broadcast_to(observation, (self.config.candidates, *observation.shape)), actions
        )
        psi = state.critic.encode_goal(desired_goal)
        best = jnp.argmax(self.energy.pairs(phi, jnp.broadcast_to(psi, phi.shape)), axis=0)
        return jnp.take_along_axis(actions, best[None, ..., None], axis=0)[0]

    def value(
        self,
        state: CRLState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return f(s, a, g) at the policy's deterministic action."""
        mean, _ = self.policy(state.actor, observation, desired_goal)
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
        mean, log_std = self.policy(actor, batch.observation, batch.desired_goal)
        action, log_density = tanh_gaussian.sample(mean, log_std, key)
        phi = critic.encode_state_action(batch.observation, action)
        value = self.energy.pairs(phi, psi)
        loss = jnp.mean(alpha * log_density - value)
        return loss, {"actor_loss": loss, "entropy": -jnp.mean(log_density), "actor_value": jnp.mean(value)}

    def alpha_loss(self, log_alpha: Scalar, entropy: Scalar) -> Scalar:
        """Raise alpha where the policy's entropy is below its target, lower it where it is above (method 1.3)."""
        target = self.config.target_entropy * self.action_size
        return jnp.exp(log_alpha) * jax.lax.stop_gradient(entropy - target)

    def learn(self, state: CRLState, batch: Batch, key: PRNGKeyArray) -> tuple[CRLState, Metrics]:
        """Take one gradient step on `batch`, all losses with the old critic; its psi(g) serves critic and actor."""
        config = self.config

        critic_gradient, (psi, critic_metrics) = jax.grad(self.critic_loss, has_aux=True)(state.critic, batch)
        critic, critic_optimizer = _adam(
            config.critic_learning_rate, state.critic, critic_gradient, state.critic_optimizer
        )

        alpha = jnp.exp(state.log_alpha)
        actor_gradient, actor_metrics = jax.grad(self.actor_loss, has_aux=True)(
            state.actor, state.critic, psi, alpha, batch, key
        )
        actor, actor_optimizer = _adam(config.actor_learning_rate, state.actor, actor_gradient, state.actor_optimizer)

        alpha_loss, alpha_gradient = jax.value_and_grad(self.alpha_loss)(state.log_alpha, actor_metrics["entropy"])
        log_alpha, alpha_optimizer = _adam(
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
        return new_state, actor_metrics | critic_metrics | {"alpha_loss": alpha_loss, "alpha": alpha}

    def update(self, state: CRLState, buffer: ReplayBuffer, key: PRNGKeyArray) -> tuple[CRLState, Metrics]:
        """Draw a batch of state-actions with hindsight goals from the whole buffer and learn from it."""
        sample_key, learn_key = jax.random.split(key)
        return self.learn(state, self.draw(buffer, sample_key), learn_key)

    def draw(self, buffer: ReplayBuffer, key: PRNGKeyArray) -> Batch:
        """Draw state-actions with goals that their own episodes reach later."""
        return sample_hindsight(buffer, (self.batch_size,), self.config.discount, key)

    def diagnose(self, state: CRLState, buffer: ReplayBuffer, key: PRNGKeyArray) -> Diagnostics:
        """Look into actor, phi and psi on a batch from the buffer (see `kilolayer.nn.diagnostics`)."""
        sample_key, learn_key = jax.random.split(key)
        batch = self.draw(buffer, sample_key)
        critic = state.critic
        critic_gradient, (psi, _) = jax.grad(self.critic_loss, has_aux=True)(critic, batch)
        alpha = jnp.exp(state.log_alpha)
        actor_gradient, _ = jax.grad(self.actor_loss, has_aux=True)(state.actor, critic, psi, alpha, batch, learn_key)
        state_action = jnp.concatenate([batch.observation, batch.action], axis=-1)
        actor_input = jnp.concatenate([batch.observation, batch.desired_goal], axis=-1)
        looked_at = {
            "actor": (state.actor, actor_gradient, actor_input),
            "phi": (critic.phi, critic_gradient.phi, state_action),
            "psi": (critic.psi, critic_gradient.psi, batch.desired_goal),
        }
        found: Diagnostics = {}
        for name, (network, gradient, inputs) in looked_at.items():
            by_block = block_statistics(network, inputs) | {"gradient_norm": gradient_norms(gradient)}
            found |= {f"{name}/{what}": value for what, value in by_block.items()}
        for name, embeddings in (("phi", critic.phi(state_action)), ("psi", psi)):
            found |= {f"{name}/effective_rank": effective_rank(embeddings), f"{name}/spread": spread(embeddings)}
        return found


def _adam(
    learning_rate: float, parameters: Parameters, gradient: Parameters, optimizer: optax.OptState
) -> tuple[Parameters, optax.OptState]:
    """Take one Adam step (Kingma and Ba, 2015)."""
    updates, optimizer = optax.adam(learning_rate).update(gradient, optimizer)
    return optax.apply_updates(parameters, updates), optimizer
