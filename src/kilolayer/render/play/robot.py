"""One robot, stepped by compiled programs, with a goal that can be changed in the middle of an episode."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from kilolayer.agents import ActionMode
from kilolayer.envs import Environment, EnvironmentState
from kilolayer.envs.drawing import drawable_of
from kilolayer.envs.entries import common_unit
from kilolayer.policies import Policy
from kilolayer.render.play.actors import Actions, actor_of


class Seen(eqx.Module):
    """What is shown of one robot."""

    qpos: Float[Array, " nq"]
    """Joint positions of the drawn model."""
    desired_goal: Float[Array, " goal"]
    distance: Float[Array, ""]
    """To the goal."""
    success: Bool[Array, ""]
    """The goal is reached."""
    episode_step: Int[Array, ""]


class Ended(eqx.Module):
    """What a step was, before a new episode began with it, if one did."""

    success: Bool[Array, ""]
    done: Bool[Array, ""]
    terminated: Bool[Array, ""]
    diverged: Bool[Array, ""]


class Robot:
    """A robot in an environment. Not for several threads at once."""

    def __init__(self, environment: Environment, policy: Policy | None, *, seed: int, mode: ActionMode):
        """Prepare the programs, and begin an episode.

        Args:
            environment: its robot is drawn.
            policy: that can move it; None for none.
            seed: of starts, goals and actions.
            mode: how the policy chooses.
        """
        self._environment, self._policy, self._mode = environment, policy, mode
        self._chunk = 1 if policy is None else policy.agent.executed_actions
        self._key, self._calls = jax.random.key(seed), 0
        self._reset = jax.jit(functools.partial(_reset, environment, self._chunk))
        self._look = jax.jit(functools.partial(_look, environment))
        self._steps: dict[Actions, Callable[..., Any]] = {}
        self._state: EnvironmentState
        self.seen: Seen
        """What is to be shown, as arrays of the host."""
        self.reset()

    def reset(self) -> None:
        """Begin an episode with a new start and a new goal."""
        self._set(self._reset(self._key, self._next()))

    def set_goal(self, goal: Float[np.ndarray, " goal"]) -> None:
        """Let the robot have another goal from now on; the policy looks at it at once."""
        state = dataclasses.replace(self._state, desired_goal=jnp.asarray(goal, self._state.desired_goal.dtype)[None])
        self._set(self._without_chunk(state))

    def step(self, actions: Actions) -> Ended:
        """Take a step; with the last one of an episode the next episode begins.

        Args:
            actions: what chooses the action. The first step with each takes as long as compiling its program.
        """
        if actions not in self._steps:
            actor, _ = actor_of(actions, self._environment, self._policy, executed_actions=self._chunk)
            self._steps[actions] = jax.jit(functools.partial(_step, actor, self._environment, self._mode))
        agent_state = None if self._policy is None or actions != "policy" else self._policy.agent_state
        self._state, seen, ended = self._steps[actions](agent_state, self._state, self._key, self._next())
        self.seen, ended = jax.device_get((seen, ended))
        return ended

    def look_again(self) -> None:
        """Forget the actions that are left of a chunk: the next step chooses anew."""
        self._state = self._without_chunk(self._state)

    def release(self) -> None:
        """Give back what the engine holds on the host."""
        self._environment.release(self._state)

    def _without_chunk(self, state: EnvironmentState) -> EnvironmentState:
        if state.chunk is None:
            return state
        chunk = dataclasses.replace(state.chunk, phase=jnp.zeros_like(state.chunk.phase))
        return dataclasses.replace(state, chunk=chunk)

    def _set(self, state: EnvironmentState) -> None:
        self._state, self.seen = state, jax.device_get(self._look(state))

    def _next(self) -> int:
        self._calls += 1
        return self._calls


def distance_text(task: Any) -> str:
    """Return what the distance to a goal is measured in; empty if nobody knows."""
    if getattr(task, "goal_parts", ()):
        return "of the radius"
    return common_unit(task, "goal")


def distance_of(task: Any, achieved_goal: Float[Array, " goal"], desired_goal: Float[Array, " goal"]) -> Any:
    """Return the distance of two goals: the task's own, or else the length of their difference."""
    own = getattr(task, "distance_to_goal", None)
    return jnp.linalg.norm(achieved_goal - desired_goal) if own is None else own(achieved_goal, desired_goal)


def _reset(environment: Environment, action_chunk: int, key: PRNGKeyArray, call: Any) -> EnvironmentState:
    return environment.reset(jax.random.fold_in(key, call), 1, action_chunk=action_chunk)


def _look(environment: Environment, state: EnvironmentState) -> Seen:
    achieved, desired = state.achieved_goal[0], state.desired_goal[0]
    return Seen(
        qpos=drawable_of(environment.task, environment.engine).scene_qpos(state.physics)[0],
        desired_goal=desired,
        distance=distance_of(environment.task, achieved, desired),
        success=environment.task.success(achieved, desired),
        episode_step=state.episode_step[0],
    )


def _step(
    actor: Any,
    environment: Environment,
    mode: ActionMode,
    agent_state: Any,
    state: EnvironmentState,
    key: PRNGKeyArray,
    call: Any,
) -> tuple[EnvironmentState, Seen, Ended]:
    key = jax.random.fold_in(key, call)
    state, _, result = environment.advance(
        state, lambda observation, goal: actor.act(agent_state, observation, goal, key, mode)
    )
    ended = Ended(result.success[0], result.done[0], result.terminated[0], result.diverged[0])
    return state, _look(environment, state), ended
