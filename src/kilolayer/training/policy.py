"""A trained policy, loaded from a run, to call with observation and desired goal."""

import os

import jax
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from kilolayer.agents import ActionMode, AgentState
from kilolayer.errors import ConfigurationError
from kilolayer.policies.compiled import ActingPrecision, CompiledPolicy, check_sizes
from kilolayer.runs.checkpoints import Checkpoints
from kilolayer.runs.config import TrainConfig
from kilolayer.runs.run_directory import RunDirectory
from kilolayer.training.setup import Setup
from kilolayer.training.step import state_shape


class Policy:
    """Chooses actions from observations and desired goals.

        >>> policy = kilolayer.load("runs/demo")
        >>> action = policy(observation, desired_goal)

    Attributes:
        setup: environments and agent as the run was trained with, at the depth of the checkpoint.
        agent_state: what the agent has learnt.
        env_steps: env steps of the checkpoint.
        config: the settings of the run.
    """

    def __init__(self, setup: Setup, agent_state: AgentState, env_steps: int, config: TrainConfig):
        """Wrap a learnt state."""
        self.setup, self.agent_state, self.env_steps, self.config = setup, agent_state, env_steps, config
        self._act = jax.jit(setup.agent.act, static_argnames="mode")
        self._value = jax.jit(setup.agent.value)
        self._key = jax.random.key(config.seed)

    def __call__(
        self, observation: ArrayLike, desired_goal: ArrayLike, *, mode: ActionMode = "deterministic"
    ) -> Float[np.ndarray, "*batch action"]:
        """Choose actions in [-1, 1].

        Args:
            observation: `(*batch, observation_size)`, without the goal.
            desired_goal: `(*batch, goal_size)`.
            mode: `deterministic`, `stochastic` (a draw; each call another), or `best_of` several draws by the critic.

        Raises:
            ConfigurationError: if a size is wrong or the mode unknown.
        """
        pair = self._check(observation, desired_goal)
        self._key, key = jax.random.split(self._key)
        return np.asarray(self._act(self.agent_state, *pair, key, mode=mode))

    def value(self, observation: ArrayLike, desired_goal: ArrayLike) -> Float[np.ndarray, "*batch"]:
        """Return how near the critic takes the goal to be; larger is nearer. Arguments as for a call."""
        return np.asarray(self._value(self.agent_state, *self._check(observation, desired_goal)))

    def compile(self, *, batch: int = 1, precision: ActingPrecision = "float32") -> CompiledPolicy:
        """Compile the deterministic policy ahead of time, to act on this machine's CPU with little delay.

        Args:
            batch: observations in a call.
            precision: of the weights: `float32`, or `int8`, a quarter of the bytes and faster. How far the actions are
                from float32's, `CompiledPolicy.error` tells.

        Raises:
            ConfigurationError: if the batch is below one, the precision unknown, or the agent has no actor.
        """
        environment = self.setup.environment
        actor = self.setup.agent.actor(self.agent_state)
        if actor is None:
            raise ConfigurationError(
                f"agent={self.config.agent!r} has no actor network to compile; call the policy itself"
            )
        return CompiledPolicy(
            actor,
            observation_size=environment.observation_size,
            goal_size=environment.goal_size,
            action_size=environment.action_size,
            batch=batch,
            precision=precision,
        )

    def _check(self, observation: ArrayLike, desired_goal: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        environment = self.setup.environment
        return check_sizes(observation, desired_goal, environment.observation_size, environment.goal_size)


def load(run: str | os.PathLike, *, checkpoint: int | str | None = None) -> Policy:
    """Load the policy of a run. Nothing stored in the run is executed.

    Args:
        run: the run directory.
        checkpoint: the step that names the checkpoint, `latest` (as None) or `best`.

    Raises:
        RunError: if the directory is not a run, has no such checkpoint, or the checkpoint is damaged.
    """
    directory = RunDirectory.open(run)
    config = directory.config()
    setup = Setup.build(config)
    checkpoints = Checkpoints(directory.checkpoints)
    try:
        step = checkpoints.resolve(checkpoint)
        clocks = checkpoints.clocks(step)
        setup = setup.at(clocks)
        agent_state = checkpoints.restore_agent(state_shape(setup).agent, step)
        return Policy(setup, agent_state, clocks.env_steps, config)
    finally:
        checkpoints.close()
