"""Soft actor-critic (Haarnoja et al., 2018, "Algorithms and Applications": with a learnt entropy coefficient), goal-
conditioned, with a sparse reward, and with hindsight experience replay where asked for.
"""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.base import Optimizers, Probe
from kilolayer.agents.core.checks import check_not_negative, check_positive
from kilolayer.agents.core.gaussian_policy import alpha_loss, choose, policy, scored_by
from kilolayer.agents.core.interface import ActionMode, Metrics
from kilolayer.agents.core.registry import AgentSpec, register_agent
from kilolayer.agents.core.twin_critic import HERConfig, TwinCritic, TwinCriticAgent, TwinCriticConfig, polyak_update
from kilolayer.data import ReplayBuffer, Transitions
from kilolayer.nn import Torso
from kilolayer.objectives import tanh_gaussian

Scalar = Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class SACConfig(TwinCriticConfig):
    """Settings of soft actor-critic."""

    alpha_learning_rate: float = 3e-4
    """Adam step size of the entropy coefficient's logarithm; 0 keeps it where it begins."""
    initial_alpha: float = 1.0
    """Entropy coefficient at the start."""
    target_entropy: float = -0.5
    """Entropy that the policy is held at, for each action dimension."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        super().__post_init__()
        check_positive(self, "initial_alpha")
        check_not_negative(self, "alpha_learning_rate")


@dataclasses.dataclass(frozen=True)
class SACHERConfig(SACConfig, HERConfig):
    """Settings of soft actor-critic with hindsight experience replay."""


class SACState(eqx.Module):
    """The state of a SAC agent."""

    actor: Torso
    critic: TwinCritic
    target_critic: TwinCritic
    log_alpha: Scalar
    optimizers: Optimizers


@dataclasses.dataclass(frozen=True)
class SAC(TwinCriticAgent):
    """Soft actor-critic for continuous actions: maximise reward and entropy."""

    config: SACConfig = SACConfig()

    # ---- Networks and optimisers ---------------------------------------------------------------------------------

    @property
    def target_entropy(self) -> float:
        """Entropy that the policy is held at."""
        return self.config.target_entropy * self.action_size

    def init(self, key: PRNGKeyArray) -> SACState:
        """Return the state of a new agent; the target critics begin as the critics."""
        actor_key, critic_key = jax.random.split(key)
        actor = self.network("actor", self.observation_size + self.goal_size, 2 * self.action_size, actor_key)
        critic = self.new_critic(critic_key)
        log_alpha = jnp.full((), math.log(self.config.initial_alpha), jnp.float32)
        return SACState(
            actor=actor,
            critic=critic,
            target_critic=jax.tree.map(jnp.copy, critic),
            log_alpha=log_alpha,
            optimizers=self.init_optimizers(actor=actor, critic=critic, alpha=log_alpha),
        )

    # ---- Acting --------------------------------------------------------------------------------------------------

    def act(
        self,
        state: SACState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
        mode: ActionMode = "deterministic",
    ) -> Float[Array, "*batch action"]:
        """Return actions in [-1, 1]: tanh(mean), a draw, or the best of `candidates` draws by the lower critic.

        Raises:
            ConfigurationError: for an unknown mode.
        """
        mean, log_std = policy(state.actor, observation, desired_goal)
        score = scored_by(state.critic.least, observation, desired_goal)
        return choose(mean, log_std, key, mode, candidates=self.config.candidates, score=score)

    # ---- Learning ------------------------------------------------------------------------------------------------

    def target(self, state: SACState, batch: Transitions, key: PRNGKeyArray) -> Float[Array, " batch"]:
        """Return r + discount * (min Q'(s', a', g) - alpha log pi(a' | s', g)), a' drawn from the policy."""
        mean, log_std = policy(state.actor, batch.next_observation, batch.next_desired_goal)
        action, log_density = tanh_gaussian.sample(mean, log_std, key)
        q = state.target_critic.least(batch.next_observation, action, batch.next_desired_goal)
        return self.backup(batch, q - jnp.exp(state.log_alpha) * log_density)

    def actor_loss(
        self, actor: Torso, critic: TwinCritic, alpha: Scalar, batch: Transitions, key: PRNGKeyArray
    ) -> tuple[Scalar, Metrics]:
        """Return the mean of alpha log pi(a | s, g) - min Q(s, a, g), a drawn from the policy."""
        mean, log_std = policy(actor, batch.observation, batch.desired_goal)
        action, log_density = tanh_gaussian.sample(mean, log_std, key)
        q = critic.least(batch.observation, action, batch.desired_goal)
        loss = jnp.mean(alpha * log_density - q)
        return loss, {"actor_loss": loss, "entropy": -jnp.mean(log_density), "actor_value": jnp.mean(q)}

    def learn(self, state: SACState, batch: Transitions, key: PRNGKeyArray) -> tuple[SACState, Metrics]:
        """Take one gradient step on `batch`: critics, then the actor with the old ones, alpha, target critics."""
        target_key, actor_key = jax.random.split(key)

        target = self.target(state, batch, target_key)
        critic, optimizers, critic_metrics = self.improve_critic(state, batch, target)

        alpha = jnp.exp(state.log_alpha)
        actor_gradient, actor_metrics = jax.grad(self.actor_loss, has_aux=True)(
            state.actor, state.critic, alpha, batch, actor_key
        )
        actor, optimizers = self.descend("actor", state.actor, actor_gradient, optimizers)

        # Raise alpha where the entropy is below its target, lower it where it is above.
        alpha_gradient = jax.grad(alpha_loss)(state.log_alpha, actor_metrics["entropy"], self.target_entropy)
        log_alpha, optimizers = self.descend("alpha", state.log_alpha, alpha_gradient, optimizers)

        new_state = SACState(
            actor=actor,
            critic=critic,
            target_critic=polyak_update(state.target_critic, critic, self.config.target_rate),
            log_alpha=log_alpha,
            optimizers=optimizers,
        )
        return new_state, actor_metrics | critic_metrics | {"alpha": alpha}

    # ---- Diagnostics ---------------------------------------------------------------------------------------------

    def probes(self, state: SACState, data: ReplayBuffer, key: PRNGKeyArray) -> dict[str, Probe]:
        """Return actor and critics with the gradients of their losses on a batch."""
        sample_key, target_key, actor_key = jax.random.split(key, 3)
        batch = self.draw(data, sample_key)
        alpha = jnp.exp(state.log_alpha)
        actor_gradient, _ = jax.grad(self.actor_loss, has_aux=True)(state.actor, state.critic, alpha, batch, actor_key)
        return self.probes_on(state, batch, actor_gradient, self.target(state, batch, target_key))


register_agent(AgentSpec("sac", "soft actor-critic with a sparse reward", SACConfig, SAC, needs_success=True))
register_agent(
    AgentSpec("sac_her", "soft actor-critic with hindsight experience replay", SACHERConfig, SAC, needs_success=True)
)
