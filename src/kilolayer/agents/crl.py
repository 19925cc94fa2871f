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
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.base import Optimizers, Probe, sizes_of
from kilolayer.agents.core.checks import check_choice, check_counts, check_positive
from kilolayer.agents.core.contrastive_critic import (
    ContrastiveAgent,
    ContrastiveConfig,
    Critic,
    Embeddings,
    Scalar,
    critic_inputs,
)
from kilolayer.agents.core.gaussian_policy import alpha_loss, choose, policy, policy_input, split_policy
from kilolayer.agents.core.interface import ActionMode, Metrics
from kilolayer.agents.core.registry import AgentSpec, NetworkSettings, Problem, register_agent
from kilolayer.data import Batch, ReplayBuffer
from kilolayer.errors import ConfigurationError
from kilolayer.nn import Torso, call_together
from kilolayer.objectives import tanh_gaussian

ActorGoals = Literal["hindsight", "resampled"]

SHUFFLE = 2**32 - 1
"""Folded into the key of the actor's loss for the order of resampled goals."""


@dataclasses.dataclass(frozen=True)
class CRLConfig(ContrastiveConfig):
    """Settings of contrastive RL; the defaults are the paper's."""

    actor_depth: int | None = None
    """Depth of the actor; None takes the depth of all networks."""
    actor_width: int | None = None
    """Width of the actor; None takes the width of all networks."""
    actor_learning_rate: float = 3e-4
    """Learning rate of the actor."""
    alpha_learning_rate: float = 3e-4
    """Adam step size of the logarithm of the entropy coefficient."""
    target_entropy: float = -0.5
    """Entropy that the policy is held at, for each action dimension; with a chunk, of each of its actions."""
    actor_goals: ActorGoals = "hindsight"
    """Goals of the actor's loss: each state's own hindsight goal, or the goals of the batch in a random order."""
    action_chunk: int = 1
    """Actions that actor and critic take at once, of which the first is executed (action-chunked CRL, 2026); at most
    the episode's length."""
    candidates: int = 16
    """Samples that best_of action selection chooses among."""
    critics: int = 1
    """Critics, 1 or 2, each with both encoders. With 2 the smaller score counts for the actor (E-CRL, 2026)."""
    survival_weight: float = 0.0
    """Weight of the log-probability of surviving in the actor's score, for tasks that end on failure (Safe-CRL, 2026).
    Above 0, a network learns that probability: that the task does not fail within a geometric number of steps."""
    survival_discount: float = 0.99
    """Surviving k steps counts with weight survival_discount^k."""
    survival_depth: int = 4
    """Depth of the network that learns survival."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        super().__post_init__()
        check_positive(self, "actor_learning_rate", "alpha_learning_rate")
        check_choice(self, "actor_goals", get_args(ActorGoals))
        check_counts(self, "actor_width", "action_chunk", "candidates")
        check_not_negative(self, "survival_weight")
        if self.critics not in (1, 2):
            raise ConfigurationError(f"critics={self.critics} must be 1 or 2")
        if not 0.0 < self.survival_discount < 1.0:
            raise ConfigurationError(f"survival_discount={self.survival_discount} must be above 0 and below 1")


class CRLState(eqx.Module):
    """The state of a CRL agent."""

    actor: Torso
    critic: Critic
    log_alpha: Scalar
    optimizers: Optimizers
    second_critic: Critic | None = None
    """With two critics."""
    survival: Torso | None = None
    """The logit of surviving after s and a, if it has a weight."""

    @property
    def critics(self) -> tuple[Critic, ...]:
        """All critics."""
        return (self.critic,) if self.second_critic is None else (self.critic, self.second_critic)


@dataclasses.dataclass(frozen=True)
class CRL(ContrastiveAgent):
    """Contrastive RL for continuous actions.

    The critic learns from the data alone which goals follow which actions; the actor learns to act so that its
    hindsight goals follow. No reward is used.
    """

    PARTS = ("actor", "critic", "goal_encoder")

    config: CRLConfig = CRLConfig()

    @classmethod
    def build(cls, problem: Problem, config: CRLConfig, networks: NetworkSettings) -> "CRL":
        """Return the agent for a problem.

        Raises:
            ConfigurationError: if a chunk of actions is longer than an episode.
        """
        if config.action_chunk > problem.episode_length:
            raise ConfigurationError(
                f"crl.action_chunk={config.action_chunk} is longer than an episode of env {problem.name!r}; it must be "
                f"at most episode_length={problem.episode_length}"
            )
        return cls(**sizes_of(problem, networks), config=config)

    # ---- Networks and optimisers ---------------------------------------------------------------------------------

    @property
    def action_chunk(self) -> int:
        """Actions that actor and critic take at once."""
        return self.config.action_chunk

    @property
    def target_entropy(self) -> float:
        """Entropy that the policy is held at."""
        return self.config.target_entropy * self.chunk_size

    def init(self, key: PRNGKeyArray) -> CRLState:
        """Return the state of a new agent: pi(s, g), phi(s, a), psi(g), and alpha = 1."""
        actor_key, phi_key, psi_key = jax.random.split(key, 3)
        critic = self.new_critic(phi_key, psi_key)
        # One head of twice the action size is the paper's two heads, mean and log_std, side by side.
        actor = self.network("actor", self.observation_size + self.goal_size, 2 * self.chunk_size, actor_key)
        log_alpha = jnp.zeros(())
        return CRLState(
            actor=actor,
            critic=critic,
            log_alpha=log_alpha,
            optimizers=self.init_optimizers(actor=actor, critic=critic, alpha=log_alpha),
        )

    def networks(self, state: CRLState) -> dict[str, Torso]:
        """Return actor, phi and psi."""
        return {"actor": state.actor, "phi": state.critic.phi, "psi": state.critic.psi}

    # ---- Acting --------------------------------------------------------------------------------------------------

    def actor(self, state: CRLState) -> Torso:
        """Return the network of the policy: it returns the means first, then the raw log standard deviations.

        With action chunks, the means of the first action, the one that is executed, come first.
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
        """Return actions in [-1, 1]: tanh(mean), a draw, or the best of `candidates` draws by the critic.

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

    def dealt(self, of_goals: Float[Array, "batch n"], key: PRNGKeyArray) -> Float[Array, "batch n"]:
        """Return what belongs to the goals of a batch, such as psi(g), in the order of the actor's goals."""
        if self.config.actor_goals == "hindsight":
            return of_goals
        return of_goals[jax.random.permutation(jax.random.fold_in(key, SHUFFLE), of_goals.shape[0])]

    def actor_loss(
        self,
        mean: Float[Array, "batch chunk"],
        log_std: Float[Array, "batch chunk"],
        critic: Critic,
        psi: Embeddings,
        alpha: Scalar,
        batch: Batch,
        key: PRNGKeyArray,
    ) -> tuple[Scalar, Metrics]:
        """Return the mean of alpha log pi(a | s, g) - f(s, a, g) (Wang et al., 2025, section 3).

        Args:
            mean: of pi(. | s, g), before the tanh.
            log_std: its log standard deviation.
            critic: which is constant here.
            psi: of the goals g.
            alpha: entropy coefficient.
            batch: with the states s.
            key: randomness of the actions.
        """
        action, log_density = tanh_gaussian.sample(mean, log_std, key)
        phi = critic.encode_state_action(batch.observation, action)
        value = self.energy.pairs(phi, psi)
        loss = jnp.mean(alpha * log_density - value)
        return loss, {"actor_loss": loss, "entropy": -jnp.mean(log_density), "actor_value": jnp.mean(value)}

    def losses(
        self, actor: Torso, critic: Critic, alpha: Scalar, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Scalar, Metrics]:
        """Return the sum of both losses, and metrics. The critic is constant in the actor's: the gradients do not mix.

        The three networks do not wait for each other, and psi(g) serves both losses.
        """
        (phi_input, psi_input), goal = critic_inputs(batch), self.dealt(batch.desired_goal, key)
        phi, psi, head = call_together(
            [(critic.phi, phi_input), (critic.psi, psi_input), (actor, policy_input(batch.observation, goal))]
        )
        critic_loss, critic_metrics = self.critic_loss(phi, psi)
        constant, psi = jax.lax.stop_gradient((critic, self.dealt(psi, key)))
        actor_loss, actor_metrics = self.actor_loss(*split_policy(head), constant, psi, alpha, batch, key)
        return critic_loss + actor_loss, critic_metrics | actor_metrics

    def learn(self, state: CRLState, batch: Batch, key: PRNGKeyArray) -> tuple[CRLState, Metrics]:
        """Take one gradient step on `batch`, all losses with the old networks."""
        alpha = jnp.exp(state.log_alpha)
        (actor_gradient, critic_gradient), metrics = jax.grad(self.losses, argnums=(0, 1), has_aux=True)(
            state.actor, state.critic, alpha, batch, key
        )
        critic, optimizers = self.descend("critic", state.critic, critic_gradient, state.optimizers)
        actor, optimizers = self.descend("actor", state.actor, actor_gradient, optimizers)

        # Raise alpha where the entropy is below its target, lower it where it is above.
        loss, alpha_gradient = jax.value_and_grad(alpha_loss)(state.log_alpha, metrics["entropy"], self.target_entropy)
        log_alpha, optimizers = self.descend("alpha", state.log_alpha, alpha_gradient, optimizers)

        new_state = CRLState(actor=actor, critic=critic, log_alpha=log_alpha, optimizers=optimizers)
        return new_state, metrics | {"alpha_loss": loss, "alpha": alpha}

    def update(self, state: CRLState, data: ReplayBuffer, key: PRNGKeyArray) -> tuple[CRLState, Metrics]:
        """Draw a batch of state-actions with hindsight goals from the whole buffer and learn from it."""
        sample_key, learn_key = jax.random.split(key)
        return self.learn(state, self.draw(data, sample_key), learn_key)

    # ---- Diagnostics ---------------------------------------------------------------------------------------------

    def probes(self, state: CRLState, data: ReplayBuffer, key: PRNGKeyArray) -> dict[str, Probe]:
        """Return actor, phi and psi with the gradients of their losses on a batch."""
        sample_key, learn_key = jax.random.split(key)
        batch = self.draw(data, sample_key)
        actor_gradient, critic_gradient = jax.grad(self.losses, argnums=(0, 1), has_aux=True)(
            state.actor, state.critic, jnp.exp(state.log_alpha), batch, learn_key
        )[0]
        actor_input = policy_input(batch.observation, self.dealt(batch.desired_goal, learn_key))
        actor_probe = Probe(state.actor, actor_gradient, actor_input)
        return {"actor": actor_probe, **self.critic_probes(state.critic, critic_gradient, batch)}


register_agent(AgentSpec("crl", "contrastive RL, the paper's method", CRLConfig, CRL))
