"""The environment: a task and an engine, vectorised and functional, with new starts and goals in every episode.

The functions of a task see one robot; the environment maps them over all. An engine steps all robots at once.
`EnvironmentState` holds everything that the next step depends on.
"""

import dataclasses
import functools
from collections.abc import Callable
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from kilolayer.envs.divergence import has_diverged
from kilolayer.envs.engines.restart import where_envs
from kilolayer.envs.interface import Engine, Physics, Task
from kilolayer.envs.methods import FORMS, arguments_of, check_passes_on, first_memory, in_full, strong
from kilolayer.envs.names import entry_names
from kilolayer.envs.robot_task import RobotTask
from kilolayer.errors import ConfigurationError

Choose = Callable[[Float[Array, "num_envs observation"], Float[Array, "num_envs goal"]], Float[Array, "num_envs chunk"]]
"""Chooses the actions of a chunk, side by side, from observations and desired goals."""


class ActionChunk(eqx.Module):
    """Actions that were chosen together and are executed one after another without looking again: open loop."""

    actions: Float[Array, "num_envs chunk"]
    """The actions of a chunk, side by side."""
    phase: Int[Array, " num_envs"]
    """Which of them comes next; 0 where the next chunk is still to be chosen."""


class EnvironmentState(eqx.Module):
    """State of all environments between two steps."""

    physics: Physics
    observation: Float[Array, "num_envs observation"]
    achieved_goal: Float[Array, "num_envs goal"]
    desired_goal: Float[Array, "num_envs goal"]
    episode_step: Int[Array, " num_envs"]
    """Steps taken in the current episode."""
    key: PRNGKeyArray
    first: tuple[Any, Float[Array, "num_envs goal"]] | None = None
    """Start and goal of the first episode, if all episodes have the same (`Environment.fixed_goals`)."""
    memory: Any = None
    """What the task remembers (`RobotTask.memory`), of every robot; None for a task without."""
    chunk: ActionChunk | None = None
    """What the robots are in the middle of, if actions are chosen several at once; an episode begins with none."""


class StepResult(eqx.Module):
    """Result of one step, before any reset: it includes the true last state of an episode.

    The state of a robot that diverged means nothing: its observation and goals are those before the step.
    """

    observation: Float[Array, "num_envs observation"]
    achieved_goal: Float[Array, "num_envs goal"]
    desired_goal: Float[Array, "num_envs goal"]
    reward: Float[Array, " num_envs"]
    success: Bool[Array, " num_envs"]
    terminated: Bool[Array, " num_envs"]
    """The task failed, or the robot diverged."""
    truncated: Bool[Array, " num_envs"]
    """The episode reached its last step, and had not terminated."""
    diverged: Bool[Array, " num_envs"]
    """The robot's state is not finite any more; see `kilolayer.envs.divergence`."""

    @property
    def done(self) -> Bool[Array, " num_envs"]:
        """The episode ended with this step."""
        return self.terminated | self.truncated


@dataclasses.dataclass(frozen=True)
class Environment:
    """A vectorised goal-reaching environment.

    `reset` and `step` are pure functions. They can be jitted and scanned, and differentiated if the engine can. When an
    episode ends, the same `step` draws a new start and a new goal for that environment, unless they are fixed.

    A robot whose simulation diverges fails its episode, and starts again like any other.
    """

    name: str
    task: Task
    engine: Engine
    episode_length: int
    """Steps after which an episode is truncated."""
    fixed_goals: bool = False
    """Every environment keeps the start and the goal of its first episode, instead of drawing new ones."""

    def __post_init__(self) -> None:
        """Validate the episode length, and the arguments of the task's methods.

        Raises:
            ConfigurationError: if the length is below 1, or a method takes other arguments than it may.
        """
        if self.episode_length < 1:
            raise ConfigurationError(f"episode_length={self.episode_length} must be at least 1")
        check_passes_on(self.task)
        _ = self._methods

    @cached_property
    def _methods(self) -> dict[str, Callable[..., Any]]:
        """The task's methods as functions of all arguments that they may have, mapped over all robots."""
        return {name: jax.vmap(in_full(name, getattr(self.task, name))) for name in FORMS}

    @property
    def remembers(self) -> bool:
        """The task remembers something between the steps of an episode."""
        return getattr(self.task, "memory", None) is not None

    @cached_property
    def _draws(self) -> bool:
        """Whether steps draw numbers of their own: for a memory, or in `observe`."""
        return self.remembers or arguments_of("observe", self.task.observe) == len(FORMS["observe"][1])

    @property
    def observation_size(self) -> int:
        """Number of entries of an observation, without the goal."""
        return self.task.observation_size

    @property
    def goal_size(self) -> int:
        """Number of entries of a goal."""
        return self.task.goal_size

    @property
    def action_size(self) -> int:
        """Number of entries of an action, each in [-1, 1]."""
        return self.task.action_size

    @property
    def discrete_actions(self) -> bool:
        """Actions are discrete: the largest of an action's `action_size` entries selects one of as many choices."""
        return getattr(self.task, "discrete_actions", False)

    @property
    def has_success(self) -> bool:
        """The task defines when a goal is reached."""
        return getattr(self.task, "success_distance", 0.0) is not None

    @property
    def runs_on_host(self) -> bool:
        """The engine runs on the host, called from the compiled program, and uses all CPU cores by itself."""
        return getattr(self.engine, "runs_on_host", False)

    @property
    def resumes_exactly(self) -> bool:
        """The state holds everything; if not, a run that resumes begins new episodes."""
        return getattr(self.engine, "resumes_exactly", True)

    @property
    def control_step(self) -> float | None:
        """Seconds between two actions, as given by the task or else by the engine; None if neither gives it."""
        step = getattr(self.task, "control_step", None)
        step = getattr(self.engine, "time_step", None) if step is None else step
        return None if step is None else float(step)

    @property
    def observation_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of an observation; None if the task does not give them."""
        return entry_names(self.task, "observation")

    @property
    def goal_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of a goal; None if the task does not give them."""
        return entry_names(self.task, "goal")

    @property
    def action_names(self) -> tuple[str, ...] | None:
        """Name, range and unit of each entry of an action; None if the task does not give them."""
        return entry_names(self.task, "action")

    def reset(self, key: PRNGKeyArray, num_envs: int, *, action_chunk: int = 1) -> EnvironmentState:
        """Begin an episode in every environment.

        Args:
            key: source of all starts and goals, also those of later episodes.
            num_envs: number of environments.
            action_chunk: actions that `advance` lets be chosen at once.
        """
        key, fresh_key, *more = jax.random.split(key, 2 + self._draws)
        start, desired_goal = drawn = self.draw(fresh_key, num_envs)
        physics = self.engine.init(start)
        memory, observation, achieved_goal = self.first_look(physics, *more)
        return EnvironmentState(
            physics=physics,
            observation=observation,
            achieved_goal=achieved_goal,
            desired_goal=desired_goal,
            episode_step=jnp.zeros(num_envs, jnp.int32),
            key=key,
            first=drawn if self.fixed_goals else None,
            memory=memory,
            chunk=None
            if action_chunk == 1
            else ActionChunk(jnp.zeros((num_envs, action_chunk * self.action_size)), jnp.zeros(num_envs, jnp.int32)),
        )

    def first_look(
        self, physics: Physics, key: PRNGKeyArray | None = None
    ) -> tuple[Any, Float[Array, "num_envs observation"], Float[Array, "num_envs goal"]]:
        """Return what all robots remember, observe and achieve at the start of an episode.

        Args:
            physics: of all robots.
            key: needed only if the task remembers, or draws what it observes.
        """
        memory, keys = None, None
        if self._draws:
            assert key is not None
            memory_keys, keys = jax.random.split(key, (2, jax.tree.leaves(physics)[0].shape[0]))
            memory = jax.vmap(functools.partial(first_memory, getattr(self.task, "memory", None)))(physics, memory_keys)
        observation = self._methods["observe"](physics, memory, keys)
        return memory, observation, self._methods["achieved_goal"](physics, memory)

    def control(self, state: EnvironmentState, action: Float[Array, "num_envs action"]) -> Any:
        """Return what the engine is told for an action of every robot; entries outside [-1, 1] are clipped."""
        return self._methods["control"](jnp.clip(action, -1.0, 1.0), state.physics, state.memory)

    def advance(
        self, state: EnvironmentState, choose: Choose
    ) -> tuple[EnvironmentState, Float[Array, "num_envs action"], StepResult]:
        """Take the next action of every environment's chunk, where a chunk is over one of a new chunk.

        Args:
            state: all environments.
            choose: returns the actions of a chunk, as many as `reset` was told.

        Returns:
            The state for the next action, the action that was taken, and the result of it.
        """
        if state.chunk is None:
            action = choose(state.observation, state.desired_goal)
            next_state, result = self.step(state, action)
            return next_state, action, result
        actions, phase = state.chunk.actions, state.chunk.phase
        due = phase == 0
        # Where all robots are in the middle of a chunk, nothing is chosen.
        actions = jax.lax.cond(
            _any(due),
            lambda: jnp.where(due[:, None], choose(state.observation, state.desired_goal), actions),
            lambda: actions,
        )
        length = actions.shape[1] // self.action_size
        one_by_one = actions.reshape(-1, length, self.action_size)
        action = jnp.take_along_axis(one_by_one, phase[:, None, None], axis=1)[:, 0]
        next_state, result = self.step(state, action)
        phase = jnp.where(result.done, 0, (phase + 1) % length)
        return dataclasses.replace(next_state, chunk=ActionChunk(actions, phase)), action, result

    def step(
        self, state: EnvironmentState, action: Float[Array, "num_envs action"]
    ) -> tuple[EnvironmentState, StepResult]:
        """Take one action in every environment.

        Args:
            state: all environments.
            action: one action for each; entries outside [-1, 1] are clipped.

        Returns:
            The state for the next action, and the result of this one.

        Raises:
            ConfigurationError: if the actions have the wrong shape or, outside `jit`, contain NaN. Inside `jit`, a
                robot diverges with an action that contains NaN.
        """
        self._check(state, action)
        physics = self.engine.step(state.physics, self.control(state, action))
        diverged = has_diverged(physics)
        key, fresh_key, *more = jax.random.split(state.key, 2 + self._draws)
        memory, observation = self._look(physics, state.memory, action, *more)

        def unless_diverged(new: Array, before: Array) -> Array:
            return jnp.where(diverged[:, None], before, new)

        methods = self._methods
        achieved_goal = unless_diverged(methods["achieved_goal"](physics, memory), state.achieved_goal)
        desired_goal = unless_diverged(methods["current_goal"](physics, state.desired_goal, memory), state.desired_goal)
        episode_step = state.episode_step + 1
        terminated = methods["failed"](physics, memory) | diverged
        result = StepResult(
            observation=unless_diverged(observation, state.observation),
            achieved_goal=achieved_goal,
            desired_goal=desired_goal,
            reward=jax.vmap(self.task.reward)(achieved_goal, desired_goal),
            success=jax.vmap(self.task.success)(achieved_goal, desired_goal) & ~diverged,
            terminated=terminated,
            truncated=~terminated & (episode_step >= self.episode_length),
            diverged=diverged,
        )

        next_state = EnvironmentState(
            physics=physics,
            observation=result.observation,
            achieved_goal=achieved_goal,
            desired_goal=desired_goal,
            episode_step=episode_step,
            key=key,
            first=state.first,
            memory=memory,
        )
        # In most steps no episode ends; then nothing is drawn and nothing is reset.
        next_state = jax.lax.cond(
            _any(result.done), self._start_again, lambda state, done, key: state, next_state, result.done, fresh_key
        )
        return next_state, result

    def release(self, state: EnvironmentState) -> None:
        """Give back what the engine holds on the host for a state that is not stepped again."""
        if hasattr(self.engine, "release"):
            self.engine.release(state.physics)

    def _look(
        self, physics: Physics, memory: Any, action: Float[Array, "num_envs action"], key: PRNGKeyArray | None = None
    ) -> tuple[Any, Float[Array, "num_envs observation"]]:
        """Return what all robots remember and observe after a step."""
        if key is None:
            return memory, self._methods["observe"](physics, memory, None)
        memory_keys, keys = jax.random.split(key, (2, action.shape[0]))
        if self.remembers and hasattr(self.task, "remember"):
            memory = jax.vmap(self.task.remember)(memory, jnp.clip(action, -1.0, 1.0), physics, memory_keys)
            memory = strong(memory)
        return memory, self._methods["observe"](physics, memory, keys)

    def _start_again(
        self, state: EnvironmentState, done: Bool[Array, " num_envs"], key: PRNGKeyArray
    ) -> EnvironmentState:
        """Begin a new episode wherever the last one is done."""
        key, *more = jax.random.split(key) if self._draws else (key,)
        start, fresh_goal = self.draw(key, done.shape[0]) if state.first is None else state.first
        physics = self.engine.restart(state.physics, start, done)
        memory, observation, achieved_goal = self.first_look(physics, *more)
        return EnvironmentState(
            physics=physics,
            observation=jnp.where(done[:, None], observation, state.observation),
            achieved_goal=jnp.where(done[:, None], achieved_goal, state.achieved_goal),
            desired_goal=jnp.where(done[:, None], fresh_goal, state.desired_goal),
            episode_step=jnp.where(done, 0, state.episode_step),
            key=state.key,
            first=state.first,
            memory=where_envs(done, memory, state.memory),
        )

    def _check(self, state: EnvironmentState, action: Float[Array, "num_envs action"]) -> None:
        """Validate actions."""
        expected = (state.episode_step.shape[0], self.action_size)
        if action.shape != expected:
            raise ConfigurationError(
                f"action has shape {action.shape}; {self.name} with {expected[0]} environments takes {expected}"
            )
        if not isinstance(action, jax.core.Tracer) and np.isnan(action).any():
            environment, number = np.argwhere(np.isnan(action))[0]
            raise ConfigurationError(f"action[{environment}, {number}] is NaN; actions are numbers in [-1, 1]")

    def draw(self, key: PRNGKeyArray, num_envs: int) -> tuple[Any, Float[Array, "num_envs goal"]]:
        """Draw a start and a goal for every environment."""
        start, goal = jax.vmap(self.task.reset)(jax.random.split(key, num_envs))
        if isinstance(self.task, RobotTask):
            start = self.task.completed(start)
        return start, goal


@jax.custom_batching.custom_vmap
def _any(done: Bool[Array, " num_envs"]) -> Bool[Array, ""]:
    """Return whether any entry is True.

    Under `vmap` the result is common to all mapped copies: a condition that differs between copies would become a
    `select`, for which both branches are computed in every step.
    """
    return jnp.any(done)


@_any.def_vmap
def _any_of_all(
    axis_size: int, is_mapped: list[bool], done: Bool[Array, "mapped num_envs"]
) -> tuple[Bool[Array, ""], bool]:
    return _any(done.reshape(-1)), False
