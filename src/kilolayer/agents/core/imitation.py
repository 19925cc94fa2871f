"""What GCBC and GCSL share: the likelihood of actions, given a goal that their own episode reached after them."""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.base import DeepAgent, Optimizers, Probe
from kilolayer.agents.core.gaussian_policy import choose, policy
from kilolayer.agents.core.interface import ActionMode, Metrics
from kilolayer.data import Batch, ReplayBuffer, sample_hindsight
from kilolayer.nn import Torso
from kilolayer.objectives import tanh_gaussian

Scalar = Float[Array, ""]


class ImitationState(eqx.Module):
    """The state of an imitating agent."""

    actor: Torso
    optimizers: Optimizers


@dataclasses.dataclass(frozen=True)
class ImitationAgent(DeepAgent):
    """A policy that imitates what led to a goal in hindsight. It has no critic, and so no value.

    An agent adds which goals it imitates with, as `draw`, and how it collects, as `explore`.
    """

    PARTS: ClassVar[tuple[str, ...]] = ("actor",)
    ACTS_WITH: ClassVar[tuple[str, ...]] = ("actor",)
    has_value: ClassVar[bool] = False

    # ---- Network and optimiser -----------------------------------------------------------------------------------

    def init(self, key: PRNGKeyArray) -> ImitationState:
        """Return the state of a new agent."""
        actor = self.network("actor", self.observation_size + self.goal_size, 2 * self.action_size, key)
        return ImitationState(actor, self.init_optimizers(actor=actor))

    def networks(self, state: ImitationState) -> dict[str, Torso]:
        """Return the actor."""
        return {"actor": state.actor}

    # ---- Acting --------------------------------------------------------------------------------------------------

    def explore(
        self, mean: Float[Array, "*batch action"], log_std: Float[Array, "*batch action"], key: PRNGKeyArray
    ) -> Float[Array, "*batch action"]:
        """Return the actions that data are collected with."""
        raise NotImplementedError

    def act(
        self,
        state: ImitationState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
        mode: ActionMode = "deterministic",
    ) -> Float[Array, "*batch action"]:
        """Return actions in [-1, 1]: tanh(mean), or a draw from the policy.

        Raises:
            ConfigurationError: for an unknown mode, and for `best_of`.
        """
        mean, log_std = policy(state.actor, observation, desired_goal)
        return choose(mean, log_std, key, mode)

    def collect(
        self,
        state: ImitationState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
    ) -> Float[Array, "*batch action"]:
        """Return the actions that data are collected with; see `explore`."""
        return self.explore(*policy(state.actor, observation, desired_goal), key)

    # ---- Learning ------------------------------------------------------------------------------------------------

    def draw(self, buffer: ReplayBuffer, key: PRNGKeyArray) -> Batch:
        """Draw state-actions with goals that their own episodes reach later."""
        return sample_hindsight(buffer, (self.batch_size,), self.goal_discount, key)

    @property
    def goal_discount(self) -> float:
        """A goal k steps ahead is drawn with weight goal_discount^k."""
        raise NotImplementedError

    def log_likelihood(
        self,
        mean: Float[Array, "*batch action"],
        log_std: Float[Array, "*batch action"],
        action: Float[Array, "*batch action"],
    ) -> Float[Array, "*batch"]:
        """Return log pi(a | s, g) for actions of the data, given what the actor returns."""
        return tanh_gaussian.log_density(mean, log_std, action)

    def actor_loss(self, actor: Torso, batch: Batch, key: PRNGKeyArray) -> tuple[Scalar, Metrics]:
        """Return minus the mean of log pi(a | s, g). The key is for metrics alone."""
        mean, log_std = policy(actor, batch.observation, batch.desired_goal)
        loss = -jnp.mean(self.log_likelihood(mean, log_std, batch.action))
        _, own_log_density = tanh_gaussian.sample(mean, log_std, key)
        return loss, {
            "actor_loss": loss,
            "entropy": -jnp.mean(own_log_density),
            "action_error": jnp.mean(jnp.abs(tanh_gaussian.mode(mean) - batch.action)),
        }

    def learn(self, state: ImitationState, batch: Batch, key: PRNGKeyArray) -> tuple[ImitationState, Metrics]:
        """Take one gradient step on `batch`."""
        gradient, metrics = jax.grad(self.actor_loss, has_aux=True)(state.actor, batch, key)
        return ImitationState(*self.descend("actor", state.actor, gradient, state.optimizers)), metrics

    def update(self, state: ImitationState, data: ReplayBuffer, key: PRNGKeyArray) -> tuple[ImitationState, Metrics]:
        """Draw a batch of state-actions with hindsight goals from the whole buffer and learn from it."""
        sample_key, learn_key = jax.random.split(key)
        return self.learn(state, self.draw(data, sample_key), learn_key)

    # ---- Diagnostics ---------------------------------------------------------------------------------------------

    def probes(self, state: ImitationState, data: ReplayBuffer, key: PRNGKeyArray) -> dict[str, Probe]:
        """Return the actor with the gradient of its loss on a batch."""
        sample_key, learn_key = jax.random.split(key)
        batch = self.draw(data, sample_key)
        gradient, _ = jax.grad(self.actor_loss, has_aux=True)(state.actor, batch, learn_key)
        inputs = jnp.concatenate([batch.observation, batch.desired_goal], axis=-1)
        return {"actor": Probe(state.actor, gradient, inputs)}
