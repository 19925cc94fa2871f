"""A tandem of two agents (Ostrovski, Castro and Dabney, 2021): one collects the data, and both learn from them.

The comparison of "1000 Layer Networks for Self-Supervised RL" (Wang et al., NeurIPS 2025): does a deep network explore
better, or does it learn more from the same data? Agents of one kind and of different depths share one replay buffer.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.interface import ActionMode, Agent, AgentState, Diagnostics, Metrics
from kilolayer.data import ReplayBuffer
from kilolayer.nn import Torso

PASSIVE = 2**32 - 1
"""Folded into a key for the random numbers of the passive agent; the active agent takes the key as it is."""


class TandemState(eqx.Module):
    """Everything that both agents have learnt."""

    passive: AgentState
    active: AgentState


@dataclasses.dataclass(frozen=True)
class Tandem:
    """A passive agent, which learns from the data of an active agent and collects none itself.

    Both draw their own batches from the same buffer, and neither sees the networks of the other. The passive agent is
    the one that is trained: `collect` alone is the active agent's. The active agent takes every key as if it were
    alone, so it collects what an agent that collects for itself collects with the same seed.
    """

    passive: Agent
    active: Agent

    @property
    def has_value(self) -> bool:
        """Whether the passive agent estimates how near a goal is."""
        return self.passive.has_value

    @property
    def executed_actions(self) -> int:
        """Actions that either agent returns side by side."""
        return self.passive.executed_actions

    def init(self, key: PRNGKeyArray) -> TandemState:
        """Return the states of two new agents."""
        return TandemState(self.passive.init(jax.random.fold_in(key, PASSIVE)), self.active.init(key))

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters of each passive network, and of each active network as `active_NAME`."""
        return self.passive.parameter_counts() | _active(self.active.parameter_counts())

    def act(
        self,
        state: TandemState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
        mode: ActionMode = "deterministic",
    ) -> Float[Array, "*batch chunk"]:
        """Return the actions of the passive agent, in [-1, 1]."""
        return self.passive.act(state.passive, observation, desired_goal, key, mode)

    def collect(
        self,
        state: TandemState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
    ) -> Float[Array, "*batch chunk"]:
        """Return the actions of the active agent."""
        return self.active.collect(state.active, observation, desired_goal, key)

    def acting(self, state: TandemState) -> tuple[Agent, AgentState]:
        """Return the passive agent and the part of its state that acts and values."""
        return self.passive.acting(state.passive)

    def actor(self, state: TandemState) -> Torso | None:
        """Return the network of the passive agent's policy."""
        return self.passive.actor(state.passive)

    def value(
        self,
        state: TandemState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return how near the goal is under the passive agent's policy.

        Raises:
            ConfigurationError: if the agent has no value.
        """
        return self.passive.value(state.passive, observation, desired_goal)

    def diagnose(self, state: TandemState, buffer: ReplayBuffer, key: PRNGKeyArray) -> Diagnostics:
        """Return diagnostics of the passive agent's networks."""
        return self.passive.diagnose(state.passive, buffer, key)

    def prepare(self, state: TandemState, buffer: ReplayBuffer) -> tuple[Any, Any]:
        """Return what the passive agent, and what the active agent learns from."""
        return self.passive.prepare(state.passive, buffer), self.active.prepare(state.active, buffer)

    def update(self, state: TandemState, data: tuple[Any, Any], key: PRNGKeyArray) -> tuple[TandemState, Metrics]:
        """Take one gradient step with each agent.

        Returns:
            The states, and the metrics: those of the active agent are called `active_NAME`.
        """
        for_passive, for_active = data
        passive, metrics = self.passive.update(state.passive, for_passive, jax.random.fold_in(key, PASSIVE))
        active, active_metrics = self.active.update(state.active, for_active, key)
        return TandemState(passive, active), metrics | _active(active_metrics)


def _active(named: dict[str, Any]) -> dict[str, Any]:
    return {f"active_{name}": value for name, value in named.items()}
