"""Collectors: where the data of a run come from."""

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PRNGKeyArray

from kilolayer.agents import Agent, AgentState
from kilolayer.data import Trajectory
from kilolayer.envs import Environment, EnvironmentState
from kilolayer.envs.divergence import Divergence
from kilolayer.training.faults import CollectFaults, finite_rows, first_false

CollectorState = Any
"""Pytree of everything that a collector carries from round to round; all leaves are arrays."""


class Collected(NamedTuple):
    """What a round of collecting leads to."""

    state: CollectorState
    """The next state of the collector."""
    trajectory: Trajectory
    """The data."""
    faults: CollectFaults
    """Where a number was not finite or a robot diverged."""


class Collector(Protocol):
    """Where the data of a run come from. A collector is a set of pure functions over explicit state.

    `init` and `collect` are traced and compiled, and mapped over seeds with `jax.vmap`. An environment that runs on the
    host is called back from them: MuJoCo's engine as a pure function of its state, environments in Python by
    `jax.experimental.io_callback`. In both cases `runs_on_host` is True. The state is arrays, so that a checkpoint can
    hold it; where that is not all that collecting depends on, `resumes_exactly` is False, and a run that resumes takes
    the state that `begin_again` returns.
    """

    @property
    def num_envs(self) -> int:
        """Environments that collect side by side: rings of the replay buffer."""
        ...

    @property
    def env_steps_per_round(self) -> int:
        """Steps of all environments in a call of `collect`; 0 if nothing is collected."""
        ...

    @property
    def observation_size(self) -> int:
        """Numbers in an observation."""
        ...

    @property
    def goal_size(self) -> int:
        """Numbers in a goal."""
        ...

    @property
    def action_size(self) -> int:
        """Numbers in an action."""
        ...

    @property
    def runs_on_host(self) -> bool:
        """Whether `collect` uses the cores of the host: several seeds then collect one after another."""
        ...

    @property
    def resumes_exactly(self) -> bool:
        """Whether collecting goes on from a saved state as if it had not stopped."""
        ...

    def init(self, key: PRNGKeyArray) -> CollectorState:
        """Return the state before the first round."""
        ...

    def begin_again(self, state: CollectorState, key: PRNGKeyArray) -> tuple[CollectorState, Bool[Array, " num_envs"]]:
        """Return a new state in place of a saved one, and which environments were in the middle of an episode.

        Args:
            state: as it was saved.
            key: randomness.
        """
        ...

    def collect(self, agent_state: AgentState, state: CollectorState, key: PRNGKeyArray) -> Collected:
        """Collect the data of a round with the agent's policy.

        Args:
            agent_state: of the agent that acts.
            state: of the collector.
            key: randomness.
        """
        ...


@dataclasses.dataclass(frozen=True)
class EnvironmentCollector:
    """Unrolls a vectorised environment with an agent's policy.

    Attributes:
        environment: takes a batch of actions.
        agent: acts.
        num_envs: environments side by side.
        unroll_length: steps of each environment in a round.
    """

    environment: Environment
    agent: Agent
    num_envs: int
    unroll_length: int

    @property
    def env_steps_per_round(self) -> int:
        """Steps of all environments in a round."""
        return self.num_envs * self.unroll_length

    @property
    def observation_size(self) -> int:
        """Numbers in an observation."""
        return self.environment.observation_size

    @property
    def goal_size(self) -> int:
        """Numbers in a goal."""
        return self.environment.goal_size

    @property
    def action_size(self) -> int:
        """Numbers in an action."""
        return self.environment.action_size

    @property
    def runs_on_host(self) -> bool:
        """Whether the engine of the environment runs on the host."""
        return self.environment.runs_on_host

    @property
    def resumes_exactly(self) -> bool:
        """Whether the state of the environment is all that there is."""
        return self.environment.resumes_exactly

    def init(self, key: PRNGKeyArray) -> EnvironmentState:
        """Reset all environments."""
        return self.environment.reset(key, self.num_envs, action_chunk=self.agent.executed_actions)

    def begin_again(
        self, state: EnvironmentState, key: PRNGKeyArray
    ) -> tuple[EnvironmentState, Bool[Array, " num_envs"]]:
        """Reset all environments; see `Collector.begin_again`."""
        return self.init(key), state.episode_step > 0

    def collect(self, agent_state: AgentState, state: EnvironmentState, key: PRNGKeyArray) -> Collected:
        """Take `unroll_length` steps in every environment; see `Collector.collect`."""

        def act_and_step(
            environment: EnvironmentState, key: PRNGKeyArray
        ) -> tuple[EnvironmentState, tuple[Trajectory, Array, Array, Divergence]]:
            next_environment, action, result = self.environment.advance(
                environment, lambda observation, goal: self.agent.collect(agent_state, observation, goal, key)
            )
            step = Trajectory(
                observation=environment.observation,
                achieved_goal=environment.achieved_goal,
                desired_goal=environment.desired_goal,
                action=action,
                # What follows a step in which the robot diverged is unknown, as after a truncation.
                terminated=result.terminated & ~result.diverged,
                done=result.done,
                diverged=result.diverged,
            )
            divergence = Divergence.of_step(result.diverged, environment.physics)
            return next_environment, (step, finite_rows(action), finite_rows(result.observation), divergence)

        state, (trajectory, action_finite, observation_finite, divergence) = jax.lax.scan(
            act_and_step, state, jax.random.split(key, self.unroll_length)
        )
        faults = CollectFaults(
            action_step=first_false(jnp.all(action_finite, axis=1)),
            observation_step=first_false(jnp.all(observation_finite, axis=1)),
            observation_env=first_false(jnp.all(observation_finite, axis=0)),
            divergence=Divergence.of_steps(divergence),
        )
        return Collected(state, trajectory, faults)


@dataclasses.dataclass(frozen=True)
class NoCollector:
    """Collects nothing: the run learns from the replay buffer that it is given. It has no state.

    Attributes:
        num_envs: rings of the buffer.
        observation_size: numbers in an observation.
        goal_size: numbers in a goal.
        action_size: numbers in an action.
    """

    num_envs: int
    observation_size: int
    goal_size: int
    action_size: int

    @property
    def env_steps_per_round(self) -> int:
        """Return 0: the training step never calls `collect`."""
        return 0

    @property
    def runs_on_host(self) -> bool:
        """Return False."""
        return False

    @property
    def resumes_exactly(self) -> bool:
        """Return True: nothing is collected."""
        return True

    def init(self, key: PRNGKeyArray) -> None:
        """Return no state."""

    def begin_again(self, state: None, key: PRNGKeyArray) -> tuple[None, Bool[Array, " num_envs"]]:
        """Return no state, and that no episode was interrupted."""
        return None, jnp.zeros(self.num_envs, bool)

    def collect(self, agent_state: AgentState, state: None, key: PRNGKeyArray) -> Collected:
        """Raise: there is nothing to collect.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("this run collects nothing; it learns from the data that it was given")
