"""What training asks of an agent: pure functions over explicit state."""

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
"""How an action is chosen: the distribution's mode, a draw from it, or the best of several draws by the critic."""


@runtime_checkable
class Agent(Protocol):
    """A learner of goal-reaching. Leading batch axes are free in `act` and `collect`."""

    @property
    def has_value(self) -> bool:
        """It can say how near a goal is; where not, `value` refuses."""
        ...

    def init(self, key: PRNGKeyArray) -> AgentState:
        """Draw a new agent."""
        ...

    def parameter_counts(self) -> dict[str, int]:
        """Return how many parameters each of the agent's networks has."""
        ...

    def act(
        self,
        state: AgentState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
        mode: ActionMode = "deterministic",
    ) -> Float[Array, "*batch action"]:
        """Choose actions in [-1, 1]."""
        ...

    def collect(
        self,
        state: AgentState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
    ) -> Float[Array, "*batch action"]:
        """Choose the actions that data to learn from are collected with, exploration included."""
        ...

    def actor(self, state: AgentState) -> Torso | None:
        """Return the policy's network: tanh of its first outputs, one for each action dimension, is the action.

        It takes observation and desired goal, one behind the other; the action is the one of `deterministic`. None if
        the policy is no such network.
        """
        ...

    def value(
        self,
        state: AgentState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Say how near the goal is under the agent's own policy: larger is nearer, in the agent's own unit.

        Raises:
            ConfigurationError: if the agent has no value.
        """
        ...

    def diagnose(self, state: AgentState, buffer: ReplayBuffer, key: PRNGKeyArray) -> "Diagnostics":
        """Look into the networks on data drawn from the buffer; learn nothing."""
        ...

    def prepare(self, state: AgentState, buffer: ReplayBuffer) -> Any:
        """Return what the gradient steps of a round learn from: all that is computed once for all of them."""
        ...

    def update(self, state: AgentState, data: Any, key: PRNGKeyArray) -> tuple[AgentState, Metrics]:
        """Take one gradient step on what `prepare` returned."""
        ...


Diagnostics = dict[str, Float[Array, "*blocks"]]
"""What to look at besides the metrics, by names such as `actor/residual_norm`: a number, or one for each block."""


def count_parameters(tree: Any) -> int:
    """Return the number of numbers in a tree of arrays or array shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def check_action_mode(mode: str, *, has_critic: bool = True) -> None:
    """Refuse an unknown way of choosing actions, or one that the agent does not have.

    Raises:
        ConfigurationError: naming the ways there are.
    """
    if mode not in get_args(ActionMode):
        raise ConfigurationError(f"action mode {mode!r} is unknown; choose one of {', '.join(get_args(ActionMode))}")
    if mode == "best_of" and not has_critic:
        raise ConfigurationError(
            "action mode 'best_of' needs a critic of actions, which this agent has not; take 'stochastic'"
        )
