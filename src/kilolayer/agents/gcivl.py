"""Goal-conditioned implicit value learning (GCIVL; Park et al., 2023 and 2024): a value of states alone, whose
expectile over what the data do is learnt by temporal differences, and an actor that imitates actions by what they
gained.

With V' the target networks, q = r + discount min V'(s', g), and L the expectile loss, which weighs a positive advantage
more (OGBench, appendix C):

    advantage = q - mean V'(s, g)
    L_V  = sum_i L(advantage, r + discount V'_i(s', g) - V_i(s, g))
    L_pi = -exp(sharpness (mean V(s', g) - mean V(s, g))) log N(a; pi(s, g), 1)
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.base import Optimizers, Probe
from kilolayer.agents.core.behaviour_cloning import constant_width_density
from kilolayer.agents.core.checks import check_not_negative
from kilolayer.agents.core.expectile_agent import ExpectileAgent, ExpectileConfig, StateValues, mean_known
from kilolayer.agents.core.gaussian_policy import policy_input
from kilolayer.agents.core.interface import Metrics
from kilolayer.agents.core.registry import AgentSpec, register_agent
from kilolayer.agents.core.twin_critic import polyak_update
from kilolayer.data import GoalTransitions, ReplayBuffer
from kilolayer.nn import Torso
from kilolayer.objectives import advantage_weights, expectile_loss

Scalar = Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class GCIVLConfig(ExpectileConfig):
    """Settings of goal-conditioned implicit value learning."""

    sharpness: float = 10.0
    """How much more an action is imitated that gained more: its weight is exp(sharpness * advantage), at most 100."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        super().__post_init__()
        check_not_negative(self, "sharpness")


class GCIVLState(eqx.Module):
    """The state of a GCIVL agent."""

    actor: Torso
    critic: StateValues
    target_critic: StateValues
    optimizers: Optimizers


@dataclasses.dataclass(frozen=True)
class GCIVL(ExpectileAgent):
    """GCIVL for continuous actions, from data that need not hold any of its own actions."""

    config: GCIVLConfig = dataclasses.field(default_factory=GCIVLConfig)

    def init(self, key: PRNGKeyArray) -> GCIVLState:
        """Return the state of a new agent; the target networks begin as the networks."""
        actor_key, *value_keys = jax.random.split(key, 3)
        actor = self.new_actor(actor_key)
        critic = StateValues(*(self.new_value(value_key) for value_key in value_keys))
        return GCIVLState(
            actor=actor,
            critic=critic,
            target_critic=jax.tree.map(jnp.copy, critic),
            optimizers=self.init_optimizers(actor=actor, critic=critic),
        )

    def networks(self, state: GCIVLState) -> dict[str, Torso]:
        """Return the actor and both values."""
        return {"actor": state.actor, "value_1": state.critic.first, "value_2": state.critic.second}

    def value(
        self,
        state: GCIVLState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return minus the discounted steps to the goal, the mean of both estimates."""
        return jnp.mean(state.critic(observation, desired_goal), axis=0)

    # ---- Learning ------------------------------------------------------------------------------------------------

    def critic_loss(self, critic: StateValues, target: StateValues, batch: GoalTransitions) -> tuple[Scalar, Metrics]:
        """Return L_V, and metrics."""
        now, following = target(batch.observation, batch.goal), target(batch.next_observation, batch.goal)
        advantage = self.backup(batch, jnp.min(following, axis=0)) - jnp.mean(now, axis=0)
        values = critic(batch.observation, batch.goal)
        losses = [
            expectile_loss(advantage, self.backup(batch, one) - value, self.config.expectile)
            for one, value in zip(following, values, strict=True)
        ]
        loss = mean_known(batch, losses[0] + losses[1])
        return loss, {"critic_loss": loss, "v": jnp.mean(values), "advantage": mean_known(batch, advantage)}

    def actor_loss(self, actor: Torso, critic: StateValues, batch: GoalTransitions) -> tuple[Scalar, Metrics]:
        """Return L_pi, and metrics. Its goals are those that the same episode reaches later."""
        goal = batch.later_goal
        now, following = (critic(seen, goal).mean(axis=0) for seen in (batch.observation, batch.next_observation))
        weight = advantage_weights(following - now, self.config.sharpness)
        mean = actor(policy_input(batch.observation, goal))
        likelihood = constant_width_density(mean, batch.action)
        loss = -mean_known(batch, weight * likelihood)
        return loss, {
            "actor_loss": loss,
            "action_likelihood": mean_known(batch, likelihood),
            "action_weight": mean_known(batch, weight),
        }

    def learn(self, state: GCIVLState, batch: GoalTransitions, key: PRNGKeyArray) -> tuple[GCIVLState, Metrics]:
        """Take one gradient step on `batch`, both losses with the old values."""
        del key
        gradient, metrics = jax.grad(self.critic_loss, has_aux=True)(state.critic, state.target_critic, batch)
        critic, optimizers = self.descend("critic", state.critic, gradient, state.optimizers)
        gradient, more = jax.grad(self.actor_loss, has_aux=True)(state.actor, state.critic, batch)
        actor, optimizers = self.descend("actor", state.actor, gradient, optimizers)
        target = polyak_update(state.target_critic, critic, self.config.target_rate)
        return GCIVLState(actor, critic, target, optimizers), metrics | more

    # ---- Diagnostics ---------------------------------------------------------------------------------------------

    def probes(self, state: GCIVLState, data: ReplayBuffer, key: PRNGKeyArray) -> dict[str, Probe]:
        """Return actor and values with the gradients of their losses on a batch."""
        batch = self.draw(data, key)
        critic_gradient = jax.grad(self.critic_loss, has_aux=True)(state.critic, state.target_critic, batch)[0]
        actor_gradient = jax.grad(self.actor_loss, has_aux=True)(state.actor, state.critic, batch)[0]
        inputs = policy_input(batch.observation, batch.goal)
        return {
            "actor": Probe(state.actor, actor_gradient, policy_input(batch.observation, batch.later_goal)),
            "value_1": Probe(state.critic.first, critic_gradient.first, inputs),
            "value_2": Probe(state.critic.second, critic_gradient.second, inputs),
        }


register_agent(
    AgentSpec("gcivl", "implicit values of states from data, and imitation of what gained most", GCIVLConfig, GCIVL)
)
