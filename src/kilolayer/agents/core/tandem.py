"""Learning from what another collects: does a deep network explore better, or does it see more in the same data?

The comparison of "1000 Layer Networks for Self-Supervised RL" (Wang et al., NeurIPS 2025): agents of one kind and of
different depths, one buffer, and one of them that acts.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.interface import ActionMode, Agent, AgentState, Diagnostics, Metrics
from kilolayer.data import ReplayBuffer
from kilolayer.nn import Torso

LEARNER = 2**32 - 1
"""Folded into a key for the learner's own draws; the collector takes the key as it is."""


class OnlookerState(eqx.Module):
    """Everything that both agents have learnt."""

    learner: AgentState
    collector: AgentState


@dataclasses.dataclass(frozen=True)
class Onlooker:
    """An agent, the learner, that learns from the data of another, the collector, and collects none itself.

    Both draw batches of their own from the same buffer, and neither knows of the other's networks. All that is asked of
    an agent is answered by the learner; `collect` alone is the collector's. The collector takes every key as if it were
    alone, so it collects what an agent that collects for itself collects with the same seed.
    """

    learner: Agent
    collector: Agent

    @property
    def has_value(self) -> bool:
        """The learner can say how near a goal is."""
        return self.learner.has_value

    def init(self, key: PRNGKeyArray) -> OnlookerState:
        """Draw both agents."""
        return OnlookerState(self.learner.init(jax.random.fold_in(key, LEARNER)), self.collector.init(key))

    def parameter_counts(self) -> dict[str, int]:
        """Return how many parameters each of the learner's networks has, and as `collector_NAME` the collector's."""
        return self.learner.parameter_counts() | _named(self.collector.parameter_counts())

    def act(
        self,
        state: OnlookerState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
        mode: ActionMode = "deterministic",
    ) -> Float[Array, "*batch action"]:
        """Choose actions in [-1, 1] as the learner does."""
        return self.learner.act(state.learner, observation, desired_goal, key, mode)

    def collect(
        self,
        state: OnlookerState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
    ) -> Float[Array, "*batch action"]:
        """Choose the collector's actions."""
        return self.collector.collect(state.collector, observation, desired_goal, key)

    def actor(self, state: OnlookerState) -> Torso | None:
        """Return the learner's policy network."""
        return self.learner.actor(state.learner)

    def value(
        self,
        state: OnlookerState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Say how near the goal is under the learner's policy.

        Raises:
            ConfigurationError: if the learner has no value.
        """
        return self.learner.value(state.learner, observation, desired_goal)

    def diagnose(self, state: OnlookerState, buffer: ReplayBuffer, key: PRNGKeyArray) -> Diagnostics:
        """Look into the learner's networks."""
        return self.learner.diagnose(state.learner, buffer, key)

    def prepare(self, state: OnlookerState, buffer: ReplayBuffer) -> tuple[Any, Any]:
        """Return what the learner, and what the collector learns from."""
        return self.learner.prepare(state.learner, buffer), self.collector.prepare(state.collector, buffer)

    def update(self, state: OnlookerState, data: tuple[Any, Any], key: PRNGKeyArray) -> tuple[OnlookerState, Metrics]:
        """Take one gradient step with each; metrics are the learner's, and as `collector_NAME` the collector's."""
        for_learner, for_collector = data
        learner, metrics = self.learner.update(state.learner, for_learner, jax.random.fold_in(key, LEARNER))
        collector, collector_metrics = self.collector.update(state.collector, for_collector, key)
        return OnlookerState(learner, collector), metrics | _named(collector_metrics)


def _named(of_collector: dict[str, Any]) -> dict[str, Any]:
    return {f"collector_{name}": value for name, value in of_collector.items()}
