"""Twin delayed deep deterministic policy gradient (TD3; Fujimoto et al., 2018), goal-conditioned, with a sparse reward,
and with hindsight experience replay where asked for.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from kilolayer.agents.core.base import Optimizers, Probe
from kilolayer.agents.core.checks import check_counts, check_not_negative, check_positive
from kilolayer.agents.core.gaussian_policy import best_of, scored_by
from kilolayer.agents.core.interface import ActionMode, Metrics, check_action_mode
from kilolayer.agents.core.registry import AgentSpec, register_agent
from kilolayer.agents.core.twin_critic import (
    HERConfig,
    TwinCritic,
    TwinCriticAgent,
    TwinCriticConfig,
    critic_input,
    polyak_update,
)
from kilolayer.data import ReplayBuffer, Transitions
from kilolayer.nn import Torso

Scalar = Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class TD3Config(TwinCriticConfig):
    """Settings of TD3."""

    exploration_noise: float = 0.1
    """Standard deviation of the noise on actions while data are collected; actions span -1 to 1."""
    smoothing_noise: float = 0.2
    """Standard deviation of the noise on the target policy's actions; 0 leaves them as they are."""
    smoothing_clip: float = 0.5
    """Most that this noise changes an action."""
    policy_delay: int = 2
    """Steps of the critics for one of the actor and of the target networks."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        super().__post_init__()
        check_not_negative(self, "exploration_noise", "smoothing_noise")
        check_positive(self, "smoothing_clip")
        check_counts(self, "policy_delay")


@dataclasses.dataclass(frozen=True)
class TD3HERConfig(TD3Config, HERConfig):
    """Settings of TD3 with hindsight experience replay."""


class TD3State(eqx.Module):
    """The state of a TD3 agent."""

    actor: Torso
    critic: TwinCritic
    target_actor: Torso
    target_critic: TwinCritic
    optimizers: Optimizers
    steps: Int[Array, ""]
    """Gradient steps of the critics so far."""
    actor_loss: Scalar
    """At the actor's latest step: the metric of all steps until its next. 0 before its first."""


@dataclasses.dataclass(frozen=True)
class TD3(TwinCriticAgent):
    """TD3 for continuous actions: a deterministic actor that climbs the first of two critics."""

    config: TD3Config = TD3Config()

    # ---- Networks and optimisers ---------------------------------------------------------------------------------

    def init(self, key: PRNGKeyArray) -> TD3State:
        """Return the state of a new agent; the target networks begin as the networks."""
        actor_key, critic_key = jax.random.split(key)
        actor = self.network("actor", self.observation_size + self.goal_size, self.action_size, actor_key)
        critic = self.new_critic(critic_key)
        return TD3State(
            actor=actor,
            critic=critic,
            target_actor=jax.tree.map(jnp.copy, actor),
            target_critic=jax.tree.map(jnp.copy, critic),
            optimizers=self.init_optimizers(actor=actor, critic=critic),
            steps=jnp.zeros((), jnp.int32),
            actor_loss=jnp.zeros(()),
        )

    # ---- Acting --------------------------------------------------------------------------------------------------

    def act(
        self,
        state: TD3State,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
        mode: ActionMode = "deterministic",
    ) -> Float[Array, "*batch action"]:
        """Return actions in [-1, 1]: the actor's own, one with noise, or the best of several by the lower critic.

        Raises:
            ConfigurationError: for an unknown mode.
        """
        check_action_mode(mode)
        action = self.deterministic_action(state.actor, observation, desired_goal)
        if mode == "deterministic":
            return action
        if mode == "stochastic":
            return self.explore(action, key)
        candidates = self.explore(jnp.broadcast_to(action, (self.config.candidates, *action.shape)), key)
        return best_of(candidates, scored_by(state.critic.least, observation, desired_goal))

    def explore(self, action: Float[Array, "*batch action"], key: PRNGKeyArray) -> Float[Array, "*batch action"]:
        """Add noise to actions, within [-1, 1]."""
        noise = self.config.exploration_noise * jax.random.normal(key, action.shape, action.dtype)
        return jnp.clip(action + noise, -1.0, 1.0)

    # ---- Learning ------------------------------------------------------------------------------------------------

    def target(self, state: TD3State, batch: Transitions, key: PRNGKeyArray) -> Float[Array, " batch"]:
        """Return r + discount * min Q'(s', a', g), where a' is the target actor's action with clipped noise."""
        clip = self.config.smoothing_clip
        action = self.deterministic_action(state.target_actor, batch.next_observation, batch.next_desired_goal)
        noise = self.config.smoothing_noise * jax.random.normal(key, action.shape, action.dtype)
        action = jnp.clip(action + jnp.clip(noise, -clip, clip), -1.0, 1.0)
        return self.backup(batch, state.target_critic.least(batch.next_observation, action, batch.next_desired_goal))

    def actor_loss(self, actor: Torso, critic: TwinCritic, batch: Transitions) -> Scalar:
        """Return the mean of -Q(s, pi(s, g), g) by the first critic."""
        action = self.deterministic_action(actor, batch.observation, batch.desired_goal)
        return -jnp.mean(critic.first(critic_input(batch.observation, action, batch.desired_goal)))

    def learn(self, state: TD3State, batch: Transitions, key: PRNGKeyArray) -> tuple[TD3State, Metrics]:
        """Take one gradient step of the critics on `batch`; every `policy_delay`-th also moves the actor, by the new
        critic, and the target networks.
        """
        config = self.config
        critic, optimizers, metrics = self.improve_critic(state, batch, self.target(state, batch, key))
        steps = state.steps + 1
        state = dataclasses.replace(state, critic=critic, optimizers=optimizers, steps=steps)

        def improve_actor(state: TD3State) -> TD3State:
            loss, gradient = jax.value_and_grad(self.actor_loss)(state.actor, critic, batch)
            actor, optimizers = self.descend("actor", state.actor, gradient, state.optimizers)
            return dataclasses.replace(
                state,
                actor=actor,
                target_actor=polyak_update(state.target_actor, actor, config.target_rate),
                target_critic=polyak_update(state.target_critic, critic, config.target_rate),
                optimizers=optimizers,
                actor_loss=loss,
            )

        state = jax.lax.cond(steps % config.policy_delay == 0, improve_actor, lambda state: state, state)
        return state, metrics | {"actor_loss": state.actor_loss}

    # ---- Diagnostics ---------------------------------------------------------------------------------------------

    def probes(self, state: TD3State, data: ReplayBuffer, key: PRNGKeyArray) -> dict[str, Probe]:
        """Return actor and critics with the gradients of their losses on a batch."""
        sample_key, target_key = jax.random.split(key)
        batch = self.draw(data, sample_key)
        actor_gradient = jax.grad(self.actor_loss)(state.actor, state.critic, batch)
        return self.probes_on(state, batch, actor_gradient, self.target(state, batch, target_key))


register_agent(AgentSpec("td3", "TD3 with a sparse reward", TD3Config, TD3, needs_success=True))
register_agent(AgentSpec("td3_her", "TD3 with hindsight experience replay", TD3HERConfig, TD3, needs_success=True))
