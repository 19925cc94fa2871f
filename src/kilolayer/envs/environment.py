"""The environment: a task joined to an engine, batched, functional, with new starts and goals in every episode.

A task says what to reach; its functions see one robot, and the environment maps them over all. An engine says how the
world moves; it steps all robots at once. Everything that the next step depends on is in `EnvironmentState`.
"""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from kilolayer.envs.mazes.maze import Maze
from kilolayer.errors import ConfigurationError

Physics = Any
"""Pytree that an engine steps; every leaf has a leading axis over environments."""


@runtime_checkable
class Engine(Protocol):
    """How a world moves: N robots at once."""

    def init(self, start: Any) -> Physics:
        """Turn a batch of starts, as the task draws them, into physics states."""
        ...

    def restart(self, physics: Physics, start: Any, where: Bool[Array, " num_envs"]) -> Physics:
        """Put the robots that `where` names at their starts, and leave the others as they are."""
        ...

    def step(self, physics: Physics, control: Float[Array, "num_envs control"]) -> Physics:
        """Advance every robot by one control step."""
        ...


@runtime_checkable
class Task(Protocol):
    """What to reach: pure functions on one robot. `physics` is one robot's slice of the engine's state."""

    @property
    def observation_size(self) -> int:
        """Numbers in an observation, the goal not among them."""
        ...

    @property
    def goal_size(self) -> int:
        """Numbers in a goal."""
        ...

    @property
    def action_size(self) -> int:
        """Numbers in an action, each in [-1, 1]."""
        ...

    @property
    def engines(self) -> tuple[str, ...]:
        """Engines that can move this robot; the first is the default on a CPU."""
        ...

    def reset(self, key: PRNGKeyArray) -> tuple[Any, Float[Array, " goal"]]:
        """Draw where an episode begins, and what it should reach."""
        ...

    def control(self, action: Float[Array, " action"]) -> Float[Array, " control"]:
        """Turn an action into what the engine takes."""
        ...

    def observe(self, physics: Physics) -> Float[Array, " observation"]:
        """Return what the agent sees."""
        ...

    def achieved_goal(self, physics: Physics) -> Float[Array, " goal"]:
        """Return the goal that this state amounts to."""
        ...

    def current_goal(self, physics: Physics, desired_goal: Float[Array, " goal"]) -> Float[Array, " goal"]:
        """Return the desired goal as it is now: the same, unless the task's goals move."""
        ...

    def success(self, achieved_goal: Float[Array, " goal"], desired_goal: Float[Array, " goal"]) -> Bool[Array, ""]:
        """Say whether the goal is reached."""
        ...

    def reward(self, achieved_goal: Float[Array, " goal"], desired_goal: Float[Array, " goal"]) -> Float[Array, ""]:
        """Score a step, for reports and for agents that need a reward; CRL does not see it."""
        ...

    def failed(self, physics: Physics) -> Bool[Array, ""]:
        """Say whether the episode is lost and ends here."""
        ...


@runtime_checkable
class MazeTask(Task, Protocol):
    """A task among walls; the first two numbers of a goal are x and y in metres."""

    @property
    def maze(self) -> Maze:
        """The walls, the start cells and the goal cells."""
        ...

    @property
    def clearance(self) -> float:
        """How near to a wall the robot's centre can come, in metres."""
        ...

    def observations_at(self, position: Float[Array, "2"]) -> Float[Array, "states observation"]:
        """Return what the agent sees in a few typical states at x, y; a place is worth the mean of their values."""
        ...


class EnvironmentState(eqx.Module):
    """All environments between two steps, ready for the next action."""

    physics: Physics
    observation: Float[Array, "num_envs observation"]
    achieved_goal: Float[Array, "num_envs goal"]
    desired_goal: Float[Array, "num_envs goal"]
    episode_step: Int[Array, " num_envs"]
    """Steps taken in the current episode."""
    key: PRNGKeyArray


class StepResult(eqx.Module):
    """What one step led to, before any reset: the true last state of an episode is here."""

    observation: Float[Array, "num_envs observation"]
    achieved_goal: Float[Array, "num_envs goal"]
    reward: Float[Array, " num_envs"]
    success: Bool[Array, " num_envs"]
    terminated: Bool[Array, " num_envs"]
    """The task failed."""
    truncated: Bool[Array, " num_envs"]
    """The episode's time was over, and the task had not failed."""

    @property
    def done(self) -> Bool[Array, " num_envs"]:
        """The episode ended with this step."""
        return self.terminated | self.truncated


@dataclasses.dataclass(frozen=True)
class Environment:
    """A vectorised goal-reaching environment.

    `reset` and `step` are pure and can be jitted, scanned and differentiated as far as the engine can. An environment
    whose episode ends is put back at a newly drawn start with a newly drawn goal within the same `step`.
    """

    name: str
    task: Task
    engine: Engine
    episode_length: int
    """Steps after which an episode is truncated."""

    def __post_init__(self) -> None:
        """Refuse an episode without steps.

        Raises:
            ConfigurationError: if the episode length is below one.
        """
        if self.episode_length < 1:
            raise ConfigurationError(f"episode_length={self.episode_length} must be at least 1")

    @property
    def observation_size(self) -> int:
        """Numbers in an observation, the goal not among them."""
        return self.task.observation_size

    @property
    def goal_size(self) -> int:
        """Numbers in a goal."""
        return self.task.goal_size

    @property
    def action_size(self) -> int:
        """Numbers in an action, each in [-1, 1]."""
        return self.task.action_size

    @property
    def discrete_actions(self) -> bool:
        """An action is one of `action_size` choices: the largest of its numbers says which."""
        return getattr(self.task, "discrete_actions", False)

    @property
    def has_success(self) -> bool:
        """The task says when a goal is reached."""
        return getattr(self.task, "success_distance", 0.0) is not None

    @property
    def runs_on_host(self) -> bool:
        """The engine is no part of the compiled program, which calls it on the host; it uses all cores by itself."""
        return getattr(self.engine, "runs_on_host", False)

    def reset(self, key: PRNGKeyArray, num_envs: int) -> EnvironmentState:
        """Begin `num_envs` episodes."""
        key, fresh_key = jax.random.split(key)
        start, desired_goal = self._draw(fresh_key, num_envs)
        physics = self.engine.init(start)
        return EnvironmentState(
            physics=physics,
            observation=jax.vmap(self.task.observe)(physics),
            achieved_goal=jax.vmap(self.task.achieved_goal)(physics),
            desired_goal=desired_goal,
            episode_step=jnp.zeros(num_envs, jnp.int32),
            key=key,
        )

    def step(
        self, state: EnvironmentState, action: Float[Array, "num_envs action"]
    ) -> tuple[EnvironmentState, StepResult]:
        """Take one action in every environment; actions beyond [-1, 1] are clipped.

        Returns:
            The state for the next action, and the result of this one.

        Raises:
            ConfigurationError: if the actions are of the wrong shape, or, outside `jit`, NaN. Inside `jit` an
                action that is NaN leads to a state that is.
        """
        self._check(state, action)
        physics = self.engine.step(state.physics, jax.vmap(self.task.control)(jnp.clip(action, -1.0, 1.0)))
        achieved_goal = jax.vmap(self.task.achieved_goal)(physics)
        desired_goal = jax.vmap(self.task.current_goal)(physics, state.desired_goal)
        episode_step = state.episode_step + 1
        terminated = jax.vmap(self.task.failed)(physics)
        result = StepResult(
            observation=jax.vmap(self.task.observe)(physics),
            achieved_goal=achieved_goal,
            reward=jax.vmap(self.task.reward)(achieved_goal, desired_goal),
            success=jax.vmap(self.task.success)(achieved_goal, desired_goal),
            terminated=terminated,
            truncated=~terminated & (episode_step >= self.episode_length),
        )

        key, fresh_key = jax.random.split(state.key)
        next_state = EnvironmentState(
            physics=physics,
            observation=result.observation,
            achieved_goal=achieved_goal,
            desired_goal=desired_goal,
            episode_step=episode_step,
            key=key,
        )
        # In most steps no episode ends, and nothing of this needs to be computed.
        next_state = jax.lax.cond(
            _any(result.done), self._begin_anew, lambda state, done, key: state, next_state, result.done, fresh_key
        )
        return next_state, result

    def _begin_anew(
        self, state: EnvironmentState, done: Bool[Array, " num_envs"], key: PRNGKeyArray
    ) -> EnvironmentState:
        """Begin new episodes where the last ones are done."""
        start, fresh_goal = self._draw(key, done.shape[0])
        physics = self.engine.restart(state.physics, start, done)
        observation = jax.vmap(self.task.observe)(physics)
        achieved_goal = jax.vmap(self.task.achieved_goal)(physics)
        return EnvironmentState(
            physics=physics,
            observation=jnp.where(done[:, None], observation, state.observation),
            achieved_goal=jnp.where(done[:, None], achieved_goal, state.achieved_goal),
            desired_goal=jnp.where(done[:, None], fresh_goal, state.desired_goal),
            episode_step=jnp.where(done, 0, state.episode_step),
            key=state.key,
        )

    def _check(self, state: EnvironmentState, action: Float[Array, "num_envs action"]) -> None:
        """Refuse actions that cannot be."""
        expected = (state.episode_step.shape[0], self.action_size)
        if action.shape != expected:
            raise ConfigurationError(
                f"action has shape {action.shape}; {self.name} with {expected[0]} environments takes {expected}"
            )
        if not isinstance(action, jax.core.Tracer) and np.isnan(action).any():
            environment, number = np.argwhere(np.isnan(action))[0]
            raise ConfigurationError(f"action[{environment}, {number}] is NaN; actions are numbers in [-1, 1]")

    def _draw(self, key: PRNGKeyArray, num_envs: int) -> tuple[Any, Float[Array, "num_envs goal"]]:
        """Draw a start and a goal for every environment."""
        return jax.vmap(self.task.reset)(jax.random.split(key, num_envs))


@jax.custom_batching.custom_vmap
def _any(done: Bool[Array, " num_envs"]) -> Bool[Array, ""]:
    """Say whether any is True. Mapped by `vmap`, it asks all of them at once: a condition that differed between them
    would become a choice for which both sides are computed in every step.
    """
    return jnp.any(done)


@_any.def_vmap
def _any_of_all(
    axis_size: int, is_mapped: list[bool], done: Bool[Array, "mapped num_envs"]
) -> tuple[Bool[Array, ""], bool]:
    return _any(done.reshape(-1)), False
