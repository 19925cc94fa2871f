"""Goal-conditioned implicit Q-learning (GCIQL; Kostrikov et al., 2022, with goals as in OGBench, Park et al., 2024): a
value of states is an expectile of a critic of actions, over the actions that the data show, so that no other action is
ever asked for; the actor climbs the critic and stays near the data (DDPG+BC).

With Q' the target critics, and L the expectile loss, which weighs a positive advantage more:

    L_V  = L(min Q'(s, a, g) - V(s, g))
    L_Q  = sum_i (r + discount V(s', g) - Q_i(s, a, g))^2
    L_pi = -min Q(s, pi(s, g), g) / mean|Q| - behaviour_cloning log N(a; pi(s, g), 1)
"""

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.base import Optimizers, Probe
from kilolayer.agents.core.behaviour_cloning import climb_and_clone
from kilolayer.agents.core.checks import check_not_negative
from kilolayer.agents.core.expectile_agent import ExpectileAgent, ExpectileConfig, mean_known
from kilolayer.agents.core.gaussian_policy import policy_input
from kilolayer.agents.core.interface import Metrics
from kilolayer.agents.core.registry import AgentSpec, register_agent
from kilolayer.agents.core.twin_critic import TwinCritic, critic_input, polyak_update
from kilolayer.data import GoalTransitions, ReplayBuffer
from kilolayer.nn import Torso
from kilolayer.objectives import expectile_loss

Scalar = Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class GCIQLConfig(ExpectileConfig):
    """Settings of goal-conditioned implicit Q-learning."""

    behaviour_cloning: float = 0.3
    """Weight of imitating the data's actions in the actor's loss."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        super().__post_init__()
        check_not_negative(self, "behaviour_cloning")


class GCIQLState(eqx.Module):
    """The state of a GCIQL agent."""

    actor: Torso
    critic: TwinCritic
    target_critic: TwinCritic
    state_value: Torso
    optimizers: Optimizers


@dataclasses.dataclass(frozen=True)
class GCIQL(ExpectileAgent):
    """GCIQL for continuous actions, from data that need not hold any of its own actions."""

    ACTS_WITH: ClassVar[tuple[str, ...]] = ("actor", "critic", "state_value")
    has_action_value: ClassVar[bool] = True

    config: GCIQLConfig = dataclasses.field(default_factory=GCIQLConfig)

    @cached_property
    def optimizers(self) -> Mapping[str, optax.GradientTransformation]:
        """The optimiser of each part; that of the state's value is the critic's."""
        own = super().optimizers
        return {**own, "state_value": own["critic"]}

    def init(self, key: PRNGKeyArray) -> GCIQLState:
        """Return the state of a new agent; the target networks begin as the networks."""
        actor_key, value_key, *critic_keys = jax.random.split(key, 4)
        in_size = self.observation_size + self.action_size + self.goal_size
        actor, state_value = self.new_actor(actor_key), self.new_value(value_key)
        critic = TwinCritic(*(self.network("critic", in_size, 1, critic_key) for critic_key in critic_keys))
        return GCIQLState(
            actor=actor,
            critic=critic,
            target_critic=jax.tree.map(jnp.copy, critic),
            state_value=state_value,
            optimizers=self.init_optimizers(actor=actor, critic=critic, state_value=state_value),
        )

    def networks(self, state: GCIQLState) -> dict[str, Torso]:
        """Return the actor, both critics and the state's value."""
        critic = state.critic
        return {
            "actor": state.actor,
            "critic_1": critic.first,
            "critic_2": critic.second,
            "state_value": state.state_value,
        }

    # ---- Acting --------------------------------------------------------------------------------------------------

    def value(
        self,
        state: GCIQLState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return minus the discounted steps to the goal, V(s, g)."""
        return state.state_value(policy_input(observation, desired_goal))[..., 0]

    def action_value(
        self,
        state: GCIQLState,
        observation: Float[Array, "*batch observation"],
        action: Float[Array, "*batch action"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return the lower Q(s, a, g)."""
        return state.critic.least(observation, action, desired_goal)

    # ---- Learning ------------------------------------------------------------------------------------------------

    def value_loss(self, state_value: Torso, target: TwinCritic, batch: GoalTransitions) -> tuple[Scalar, Metrics]:
        """Return L_V, and metrics."""
        value = state_value(policy_input(batch.observation, batch.goal))[..., 0]
        advantage = target.least(batch.observation, batch.action, batch.goal) - value
        loss = mean_known(batch, expectile_loss(advantage, advantage, self.config.expectile))
        return loss, {"value_loss": loss, "v": jnp.mean(value), "advantage": mean_known(batch, advantage)}

    def critic_loss(self, critic: TwinCritic, state_value: Torso, batch: GoalTransitions) -> tuple[Scalar, Metrics]:
        """Return L_Q, and metrics."""
        following = state_value(policy_input(batch.next_observation, batch.goal))[..., 0]
        error = self.backup(batch, following) - critic(batch.observation, batch.action, batch.goal)
        loss = mean_known(batch, jnp.sum(jnp.square(error), axis=0))
        return loss, {"critic_loss": loss}

    def actor_loss(self, actor: Torso, critic: TwinCritic, batch: GoalTransitions) -> tuple[Scalar, Metrics]:
        """Return L_pi, and metrics. Its goals are those that the same episode reaches later."""
        mean = actor(policy_input(batch.observation, batch.later_goal))
        score = critic.least(batch.observation, jnp.tanh(mean), batch.later_goal)
        return climb_and_clone(mean, score, batch.action, self.config.behaviour_cloning)

    def learn(self, state: GCIQLState, batch: GoalTransitions, key: PRNGKeyArray) -> tuple[GCIQLState, Metrics]:
        """Take one gradient step on `batch`, all losses with the old networks."""
        del key
        gradient, of_value = jax.grad(self.value_loss, has_aux=True)(state.state_value, state.target_critic, batch)
        state_value, optimizers = self.descend("state_value", state.state_value, gradient, state.optimizers)
        gradient, of_critic = jax.grad(self.critic_loss, has_aux=True)(state.critic, state.state_value, batch)
        critic, optimizers = self.descend("critic", state.critic, gradient, optimizers)
        gradient, of_actor = jax.grad(self.actor_loss, has_aux=True)(state.actor, state.critic, batch)
        actor, optimizers = self.descend("actor", state.actor, gradient, optimizers)
        target = polyak_update(state.target_critic, critic, self.config.target_rate)
        return GCIQLState(actor, critic, target, state_value, optimizers), of_value | of_critic | of_actor

    # ---- Diagnostics ---------------------------------------------------------------------------------------------

    def probes(self, state: GCIQLState, data: ReplayBuffer, key: PRNGKeyArray) -> dict[str, Probe]:
        """Return all networks with the gradients of their losses on a batch."""
        batch = self.draw(data, key)
        value_gradient = jax.grad(self.value_loss, has_aux=True)(state.state_value, state.target_critic, batch)[0]
        critic_gradient = jax.grad(self.critic_loss, has_aux=True)(state.critic, state.state_value, batch)[0]
        actor_gradient = jax.grad(self.actor_loss, has_aux=True)(state.actor, state.critic, batch)[0]
        of_critic = critic_input(batch.observation, batch.action, batch.goal)
        return {
            "actor": Probe(state.actor, actor_gradient, policy_input(batch.observation, batch.later_goal)),
            "critic_1": Probe(state.critic.first, critic_gradient.first, of_critic),
            "critic_2": Probe(state.critic.second, critic_gradient.second, of_critic),
            "state_value": Probe(state.state_value, value_gradient, policy_input(batch.observation, batch.goal)),
        }


register_agent(AgentSpec("gciql", "implicit Q-learning from data, and an actor near the data", GCIQLConfig, GCIQL))
