"""The interface of an agent: pure functions of explicit state."""

import math
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.data import ReplayBuffer
from kilolayer.errors import ConfigurationError
from kilolayer.nn import Torso

AgentState = Any
"""Pytree of everything that an agent learns or remembers; all leaves are arrays."""

Metrics = dict[str, Float[Array, ""]]

ActionMode = Literal["deterministic", "stochastic", "best_of"]
"""How an action is chosen: the mode of the distribution, a sample, or the best of several samples by the critic."""

Diagnostics = dict[str, Float[Array, "*blocks"]]
"""Diagnostics of networks, by names such as `actor/residual_norm`: a number, or one for each block."""


@runtime_checkable
class Agent(Protocol):
    """A learner of goal-reaching. Leading batch axes are free in `act`, `collect` and `value`."""

    @property
    def has_value(self) -> bool:
        """Whether the agent estimates how near a goal is; if not, `value` raises."""
        ...

    @property
    def executed_actions(self) -> int:
        """Actions that `act` and `collect` return side by side for one observation, to be executed one after another
        before the agent is asked again (open loop).
        """
        ...

    def init(self, key: PRNGKeyArray) -> AgentState:
        """Return the state of a new agent."""
        ...

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters of each network."""
        ...

    def act(
        self,
        state: AgentState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
        mode: ActionMode = "deterministic",
    ) -> Float[Array, "*batch chunk"]:
        """Return actions in [-1, 1]: `executed_actions` of them, side by side.

        Args:
            state: of the agent.
            observation: without the goal.
            desired_goal: the goal to reach.
            key: randomness of `stochastic` and `best_of`.
            mode: how actions are chosen.

        Raises:
            ConfigurationError: if the agent does not know the mode.
        """
        ...

    def collect(
        self,
        state: AgentState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
    ) -> Float[Array, "*batch chunk"]:
        """Return the actions that data are collected with, exploration included; as many as `act` returns."""
        ...

    def acting(self, state: AgentState) -> tuple["Agent", AgentState]:
        """Return the agent that acts, and the part of its state that `act` and `value` read."""
        ...

    def actor(self, state: AgentState) -> Torso | None:
        """Return the network of the policy; None if the policy is no such network.

        It takes the observation and the desired goal, concatenated. The tanh of its first outputs, one for each number
        of what `act` returns, is the deterministic action.
        """
        ...

    def value(
        self,
        state: AgentState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return how near the goal is under the agent's own policy: larger is nearer, in the agent's own unit.

        Raises:
            ConfigurationError: if the agent has no value.
        """
        ...

    def diagnose(self, state: AgentState, buffer: ReplayBuffer, key: PRNGKeyArray) -> Diagnostics:
        """Return diagnostics of the networks on data drawn from the buffer."""
        ...

    def prepare(self, state: AgentState, buffer: ReplayBuffer) -> Any:
        """Return what the gradient steps of a round learn from: what is computed once for all of them."""
        ...

    def update(self, state: AgentState, data: Any, key: PRNGKeyArray) -> tuple[AgentState, Metrics]:
        """Take one gradient step on what `prepare` returned."""
        ...


def count_parameters(tree: Any) -> int:
    """Return the number of numbers in a tree of arrays or array shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def check_action_mode(mode: str, *, has_critic: bool = True) -> None:
    """Check that an agent can choose actions in this mode.

    Args:
        mode: the mode.
        has_critic: the agent has a critic of actions, which `best_of` needs.

    Raises:
        ConfigurationError: for an unknown mode, or `best_of` without a critic.
    """
    if mode not in get_args(ActionMode):
        raise ConfigurationError(f"action mode {mode!r} is unknown; choose one of {', '.join(get_args(ActionMode))}")
    if mode == "best_of" and not has_critic:
        raise ConfigurationError(
            "action mode 'best_of' needs a critic of actions, which this agent does not have; take 'stochastic'"
        )
