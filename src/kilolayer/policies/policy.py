"""A trained policy, to call with an observation and a desired goal."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from kilolayer.agents import ActionMode, Agent, AgentState, check_action_mode
from kilolayer.errors import ConfigurationError
from kilolayer.policies.action_queue import ActionQueue
from kilolayer.policies.artifact import artifact_writer, read_artifact, save_artifact
from kilolayer.policies.compiled import ActingPrecision, CompiledPolicy, check_sizes
from kilolayer.policies.contract import Contract


class Policy:
    """Chooses actions from observations and desired goals.

        >>> policy = kilolayer.load("runs/demo")
        >>> action = policy(observation, desired_goal)

    A policy whose `contract.action.chunk` is above 1 chooses so many actions at once. Calls return them one after
    another; the observation is looked at where a new chunk begins. Call `reset` when an episode ends.

    Attributes:
        contract: what the policy takes and returns, and where it comes from; `print(policy.contract)` shows it.
        agent: acts and values.
        agent_state: the networks.
    """

    def __init__(self, contract: Contract, agent: Agent, agent_state: AgentState):
        """Make a policy of an agent and its state.

        Args:
            contract: of the policy.
            agent: as `Agent.acting` returns it.
            agent_state: as `Agent.acting` returns it.
        """
        self.contract, self.agent, self.agent_state = contract, agent, agent_state
        self._calls = 0
        self._queue = ActionQueue(agent.executed_actions)
        self._act = jax.jit(self._choose, static_argnames="mode")
        self._value = jax.jit(agent.value)

    @classmethod
    def read(cls, directory: str | os.PathLike) -> "Policy":
        """Read a policy that `save` wrote; see `read_artifact`."""
        return cls(*read_artifact(directory))

    def save(self, directory: str | os.PathLike) -> Path:
        """Write the policy into a new directory, to be loaded anywhere; see `save_artifact`."""
        return save_artifact(directory, self.contract, self.agent_state)

    def writer(self) -> Callable[[Path], None]:
        """Return a function that writes the files of the policy into a directory. The arrays are copied now."""
        return artifact_writer(self.contract, self.agent_state)

    @property
    def env_steps(self) -> int:
        """Steps taken in all environments together when the policy was saved."""
        return self.contract.env_steps

    @property
    def observation_size(self) -> int:
        """Entries of an observation, without the goal."""
        return self.contract.observation.size

    @property
    def goal_size(self) -> int:
        """Entries of a desired goal."""
        return self.contract.goal.size

    @property
    def action_size(self) -> int:
        """Entries of an action."""
        return self.contract.action.size

    def __call__(
        self, observation: ArrayLike, desired_goal: ArrayLike, *, mode: ActionMode = "deterministic"
    ) -> Float[np.ndarray, "*batch action"]:
        """Return the action to execute next, in [-1, 1].

        Args:
            observation: `(*batch, observation_size)`, without the goal.
            desired_goal: `(*batch, goal_size)`.
            mode: `deterministic`, `stochastic` (a new draw whenever actions are chosen), or `best_of` several draws by
                the critic.

        Raises:
            ConfigurationError: if a size is wrong or the mode is unknown.
        """
        pair = self._check(observation, desired_goal)
        check_action_mode(mode)
        return self._queue.next(pair[0].shape[:-1], lambda: self._chosen(*pair, mode))

    def chunk(
        self, observation: ArrayLike, desired_goal: ArrayLike, *, mode: ActionMode = "deterministic"
    ) -> Float[np.ndarray, "*batch chunk action"]:
        """Return all actions that are chosen at once, to be executed one after another; see `__call__`.

        It remembers nothing: calls of the policy itself go on as if it had not been called.
        """
        pair = self._check(observation, desired_goal)
        return self._chosen(*pair, mode).reshape(*pair[0].shape[:-1], -1, self.action_size)

    def reset(self, ended: ArrayLike | None = None) -> None:
        """Forget the actions that are left of a chunk: an episode begins, and the next call chooses anew.

        Args:
            ended: of a batch, whose episode ended, `(*batch,)`; None for all.

        Raises:
            ConfigurationError: if `ended` has not the leading axes of the last call.
        """
        self._queue.reset(ended)

    def value(self, observation: ArrayLike, desired_goal: ArrayLike) -> Float[np.ndarray, "*batch"]:
        """Return how near the goal is by the critic; larger is nearer.

        Args:
            observation: `(*batch, observation_size)`, without the goal.
            desired_goal: `(*batch, goal_size)`.

        Raises:
            ConfigurationError: if a size is wrong or the agent learns no critic.
        """
        return np.asarray(self._value(self.agent_state, *self._check(observation, desired_goal)))

    def compile(self, *, batch: int = 1, precision: ActingPrecision = "float32") -> CompiledPolicy:
        """Compile the deterministic policy ahead of time, to act on this machine's CPU with little delay.

        Args:
            batch: observations in a call.
            precision: of the weights: `float32`, or `int8`, a quarter of the bytes and faster. `CompiledPolicy.error`
                measures how far the actions are from those in float32.

        Raises:
            ConfigurationError: if the batch is below one, the precision is unknown, or the agent has no actor.
        """
        actor: Any = self.agent.actor(self.agent_state)
        if actor is None:
            raise ConfigurationError(
                f"agent={self.contract.agent.name!r} has no actor network to compile; call the policy itself"
            )
        return CompiledPolicy(
            actor,
            observation_size=self.observation_size,
            goal_size=self.goal_size,
            action_size=self.action_size,
            action_chunk=self.agent.executed_actions,
            batch=batch,
            precision=precision,
        )

    def _chosen(
        self, observation: np.ndarray, desired_goal: np.ndarray, mode: ActionMode
    ) -> Float[np.ndarray, "*batch chunk"]:
        """Return what the agent chooses, with randomness of its own in every call."""
        randomness = np.array([self.contract.seed & 0xFFFFFFFF, self._calls & 0xFFFFFFFF], np.uint32)
        self._calls += 1
        return np.asarray(self._act(self.agent_state, observation, desired_goal, randomness, mode=mode))

    def _choose(
        self,
        agent_state: AgentState,
        observation: Float[jax.Array, "*batch observation"],
        desired_goal: Float[jax.Array, "*batch goal"],
        randomness: Any,
        mode: ActionMode,
    ) -> Float[jax.Array, "*batch chunk"]:
        """Act with a key of two numbers, in one program: a key made outside would be compiled by itself."""
        key = jax.random.wrap_key_data(randomness, impl="threefry2x32")
        return self.agent.act(agent_state, observation, desired_goal, key, mode)

    def _check(self, observation: ArrayLike, desired_goal: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        return check_sizes(observation, desired_goal, self.observation_size, self.goal_size)
