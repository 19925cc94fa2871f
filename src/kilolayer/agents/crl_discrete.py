"""Contrastive RL for discrete actions (Eysenbach et al., 2022): the critic alone learns, and the policy is its softmax.

The critic and its loss are those of `kilolayer.agents.crl`.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.base import Probe, adam
from kilolayer.agents.core.checks import check_finite, check_positive
from kilolayer.agents.core.contrastive_critic import ContrastiveAgent, Critic
from kilolayer.agents.core.interface import ActionMode, Metrics, check_action_mode
from kilolayer.agents.crl import CRLConfig
from kilolayer.data import Batch, ReplayBuffer
from kilolayer.errors import ConfigurationError
from kilolayer.nn import Torso

ACTOR_SETTINGS = (
    "actor_depth",
    "actor_width",
    "actor_learning_rate",
    "alpha_learning_rate",
    "target_entropy",
    "actor_goals",
    "action_chunk",
    "candidates",
)
"""Settings of `CRLConfig` that none but an actor reads."""


@dataclasses.dataclass(frozen=True)
class CRLDiscreteConfig:
    """Settings of contrastive RL with discrete actions; those of its critic are in the block `crl`."""

    temperature: float = 1.0
    """Divisor of f(s, a, g) in the policy's softmax over actions: the lower, the surer the policy."""

    def __post_init__(self) -> None:
        """Refuse a temperature that is none.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        check_finite(self)
        check_positive(self, "temperature")


class CRLDiscreteState(eqx.Module):
    """Everything that the agent has learnt."""

    critic: Critic
    critic_optimizer: optax.OptState


@dataclasses.dataclass(frozen=True)
class CRLDiscrete(ContrastiveAgent):
    """Contrastive RL for discrete actions, which are one-hot vectors. There is no actor network."""

    PARTS = ("critic", "goal_encoder")

    config: CRLConfig = CRLConfig()
    policy: CRLDiscreteConfig = CRLDiscreteConfig()

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be, and settings that would change nothing.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        super().__post_init__()
        for field in dataclasses.fields(self.config):
            value = getattr(self.config, field.name)
            if field.name in ACTOR_SETTINGS and value != field.default:
                raise ConfigurationError(
                    f"crl.{field.name}={value} has no effect with agent='crl_discrete', which has no actor; leave it "
                    f"at {field.default}"
                )

    def init(self, key: PRNGKeyArray) -> CRLDiscreteState:
        """Draw a new agent: phi(s, a) and psi(g)."""
        critic = self.new_critic(*jax.random.split(key))
        return CRLDiscreteState(critic, optax.adam(self.config.critic_learning_rate).init(critic))

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
            choice = jax.random.categorical(key, energies / self.policy.temperature)
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
        gradient, (_, metrics) = jax.grad(self.critic_loss, has_aux=True)(state.critic, batch)
        critic, optimizer = adam(self.config.critic_learning_rate, state.critic, gradient, state.critic_optimizer)
        return CRLDiscreteState(critic, optimizer), metrics

    def update(
        self, state: CRLDiscreteState, data: ReplayBuffer, key: PRNGKeyArray
    ) -> tuple[CRLDiscreteState, Metrics]:
        """Draw a batch of state-actions with hindsight goals from the whole buffer and learn from it."""
        return self.learn(state, self.draw(data, key))

    # ---- Looking inside ------------------------------------------------------------------------------------------

    def probes(self, state: CRLDiscreteState, data: ReplayBuffer, key: PRNGKeyArray) -> dict[str, Probe]:
        """Return phi and psi with the gradient of their loss on a batch."""
        batch = self.draw(data, key)
        gradient, _ = jax.grad(self.critic_loss, has_aux=True)(state.critic, batch)
        return self.critic_probes(state.critic, gradient, batch)
