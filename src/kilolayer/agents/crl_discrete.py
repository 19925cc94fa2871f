"""Contrastive RL for discrete actions (Eysenbach et al., 2022): the critic alone learns, and the policy is its softmax.

The critic and its loss are in `kilolayer.agents.core.contrastive_critic`.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.base import Optimizers, Probe
from kilolayer.agents.core.checks import check_positive
from kilolayer.agents.core.contrastive_critic import ContrastiveAgent, ContrastiveConfig, Critic
from kilolayer.agents.core.interface import ActionMode, Metrics, check_action_mode
from kilolayer.agents.core.registry import AgentSpec, register_agent
from kilolayer.data import Batch, ReplayBuffer
from kilolayer.nn import Torso


@dataclasses.dataclass(frozen=True)
class CRLDiscreteConfig(ContrastiveConfig):
    """Settings of contrastive RL with discrete actions."""

    policy_temperature: float = 1.0
    """Divisor of f(s, a, g) in the policy's softmax over actions: the lower, the more deterministic the policy."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        super().__post_init__()
        check_positive(self, "policy_temperature")


class CRLDiscreteState(eqx.Module):
    """The state of the agent."""

    critic: Critic
    optimizers: Optimizers


@dataclasses.dataclass(frozen=True)
class CRLDiscrete(ContrastiveAgent):
    """Contrastive RL for discrete actions, which are one-hot vectors. There is no actor network."""

    PARTS = ("critic", "goal_encoder")

    ACTS_WITH = ("critic",)

    config: CRLDiscreteConfig = CRLDiscreteConfig()

    def init(self, key: PRNGKeyArray) -> CRLDiscreteState:
        """Return the state of a new agent: phi(s, a) and psi(g)."""
        critic = self.new_critic(*jax.random.split(key))
        return CRLDiscreteState(critic, self.init_optimizers(critic=critic))

    def networks(self, state: CRLDiscreteState) -> dict[str, Torso]:
        """Return phi and psi."""
        return {"phi": state.critic.phi, "psi": state.critic.psi}

    # ---- Acting --------------------------------------------------------------------------------------------------

    def actor(self, state: CRLDiscreteState) -> None:
        """Return None: the policy is the critic's."""

    def energies(
        self,
        state: CRLDiscreteState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch actions"]:
        """Return f(s, a, g) of every action a."""
        every = (*observation.shape[:-1], self.action_size)
        phi = state.critic.encode_state_action(
            jnp.broadcast_to(observation[..., None, :], (*every, self.observation_size)),
            jnp.broadcast_to(jnp.eye(self.action_size), (*every, self.action_size)),
        )
        psi = state.critic.encode_goal(desired_goal)
        return self.energy.pairs(phi, jnp.broadcast_to(psi[..., None, :], phi.shape))

    def act(
        self,
        state: CRLDiscreteState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
        mode: ActionMode = "deterministic",
    ) -> Float[Array, "*batch action"]:
        """Choose actions, as one-hot vectors: the best by the critic, or for `stochastic` a draw from the softmax.

        Raises:
            ConfigurationError: for an unknown mode.
        """
        check_action_mode(mode)
        energies = self.energies(state, observation, desired_goal)
        if mode == "stochastic":
            choice = jax.random.categorical(key, energies / self.config.policy_temperature)
        else:
            choice = jnp.argmax(energies, axis=-1)
        return jax.nn.one_hot(choice, self.action_size)

    def value(
        self,
        state: CRLDiscreteState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return f(s, a, g) at the best action."""
        return jnp.max(self.energies(state, observation, desired_goal), axis=-1)

    # ---- Learning ------------------------------------------------------------------------------------------------

    def learn(self, state: CRLDiscreteState, batch: Batch) -> tuple[CRLDiscreteState, Metrics]:
        """Take one gradient step on `batch`."""
        gradient, metrics = jax.grad(self.loss_of_critic, has_aux=True)(state.critic, batch)
        critic, optimizers = self.descend("critic", state.critic, gradient, state.optimizers)
        return CRLDiscreteState(critic, optimizers), metrics

    def update(
        self, state: CRLDiscreteState, data: ReplayBuffer, key: PRNGKeyArray
    ) -> tuple[CRLDiscreteState, Metrics]:
        """Draw a batch of state-actions with hindsight goals from the whole buffer and learn from it."""
        return self.learn(state, self.draw(data, key))

    # ---- Diagnostics ---------------------------------------------------------------------------------------------

    def probes(self, state: CRLDiscreteState, data: ReplayBuffer, key: PRNGKeyArray) -> dict[str, Probe]:
        """Return phi and psi with the gradient of their loss on a batch."""
        batch = self.draw(data, key)
        gradient, _ = jax.grad(self.loss_of_critic, has_aux=True)(state.critic, batch)
        return self.critic_probes(state.critic, gradient, batch)


register_agent(
    AgentSpec(
        "crl_discrete",
        "contrastive RL for discrete actions: the policy is the critic's softmax",
        CRLDiscreteConfig,
        CRLDiscrete,
        discrete=True,
    )
)
