"""Recording: evaluation episodes of a policy, with the pose of every step."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from kilolayer.agents import ActionMode, Agent, AgentState
from kilolayer.envs import Environment, EnvironmentState
from kilolayer.errors import ConfigurationError, TrainingError
from kilolayer.memory import return_unused_memory
from kilolayer.policies import Policy
from kilolayer.render.scene import Motion, Scene, scene_model

PROGRAMS = 4
"""Compiled recordings that a process keeps, with their agents and environments."""

CHUNK = 50
"""Steps between two progress reports."""


def record(
    policy: Policy,
    environment: Environment,
    key: PRNGKeyArray,
    *,
    num_episodes: int,
    mode: ActionMode = "deterministic",
    advance: Callable[[int], None] = lambda steps: None,
) -> Scene:
    """Run evaluation episodes and record the motion.

    The step that ends an episode replaces its last state by the start of the next one. So the last frame of a motion is
    the state before the last action, while `time_at_goal` counts all steps.

    Args:
        policy: the policy.
        environment: an environment that fits the policy.
        key: source of starts, goals and sampled actions; the same key as for `run_episodes` gives the same starts and
            goals.
        num_episodes: number of episodes, which run in parallel.
        mode: how actions are chosen.
        advance: called with the number of steps after every few steps.

    Returns:
        The recorded scene.

    Raises:
        ConfigurationError: if the task has no model to draw, or its control step is unknown.
        TrainingError: if a pose is not finite.
    """
    model = scene_model(environment.task)
    reset_key, act_key = jax.random.split(key)
    agent: Any = policy.agent
    begin, run = _programs(agent, environment, num_episodes, mode)
    carry = (begin(reset_key), jnp.ones(num_episodes, bool))
    chunks: list[Any] = []
    for step in range(0, environment.episode_length, CHUNK):
        keys = jax.random.split(jax.random.fold_in(act_key, step), CHUNK)
        carry, frames = run(policy.agent_state, carry, keys)
        chunks.append(jax.device_get(frames))
        advance(min(CHUNK, environment.episode_length - step))
        if not carry[1].any():
            break
    qpos, desired_goal, success, alive, reached = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    motions = []
    for episode in range(num_episodes):
        length = int(alive[:, episode].sum())
        if not np.isfinite(qpos[:length, episode]).all():
            raise TrainingError(f"an episode in {environment.name} is not finite")
        goal, radius = _marks(environment, desired_goal[:length, episode])
        time_at_goal = int((reached & alive)[:, episode].sum())
        motions.append(Motion(qpos[:length, episode], goal, radius, success[:length, episode], time_at_goal))
    return scene_of(environment, motions, model)


def pose_at_start(environment: Environment, key: PRNGKeyArray) -> Scene:
    """Return a scene of one frame: a start and a goal drawn by the task.

    Args:
        environment: the environment.
        key: source of start and goal.
    """
    state = jax.jit(lambda key: environment.reset(key, 1))(key)
    goal, radius = _marks(environment, np.asarray(state.desired_goal))
    motion = Motion(np.asarray(_qpos(environment, state)), goal, radius, np.zeros(1, bool), 0)
    return scene_of(environment, [motion])


def scene_of(environment: Environment, motions: list[Motion], model: Any = None) -> Scene:
    """Return a scene of motions that have been recorded.

    Args:
        environment: that they were recorded in.
        motions: of its robot.
        model: to draw; None takes that of the task.

    Raises:
        ConfigurationError: if the task has no model to draw, or its control step is unknown.
    """
    step = environment.control_step
    if step is None:
        raise ConfigurationError(
            f"{environment.name} has no control step; set `control_step` of its task to the seconds between two actions"
        )
    return Scene(
        name=environment.name,
        model=scene_model(environment.task) if model is None else model,
        motions=motions,
        control_step=step,
        flat_goal=environment.goal_size == 2,
        maze=getattr(environment.task, "maze", None),
    )


@functools.lru_cache(maxsize=PROGRAMS)
def _programs(
    agent: Any, environment: Environment, num_episodes: int, mode: ActionMode
) -> tuple[Callable[[Any], EnvironmentState], Callable[[AgentState, Any, Any], Any]]:
    """Return the compiled functions that begin episodes and take a few steps of them, kept for the next call."""
    return_unused_memory()

    def run(agent_state: AgentState, carry: Any, keys: PRNGKeyArray) -> tuple[Any, Any]:
        return jax.lax.scan(functools.partial(_step, agent, agent_state, environment, mode), carry, keys)

    begin = functools.partial(environment.reset, num_envs=num_episodes, action_chunk=agent.executed_actions)
    return jax.jit(begin), jax.jit(run)


def _step(
    agent: Agent, agent_state: AgentState, environment: Environment, mode: ActionMode, carry: tuple, key: PRNGKeyArray
) -> tuple[tuple, tuple]:
    """Take one step of all episodes, and return what is drawn of the state before it."""
    state, alive = carry
    success = jax.vmap(environment.task.success)(state.achieved_goal, state.desired_goal)
    next_state, _, result = environment.advance(
        state, lambda observation, goal: agent.act(agent_state, observation, goal, key, mode)
    )
    frame = (_qpos(environment, state), state.desired_goal, success, alive, result.success)
    return (next_state, alive & ~result.done), frame


def _qpos(environment: Environment, state: EnvironmentState) -> jax.Array:
    """Return the joint positions of the scene's model."""
    task: Any = environment.task
    return task.scene_qpos(state.physics)


def _marks(environment: Environment, desired_goal: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the position of the goal's mark in each frame, and the radius of the mark."""
    task: Any = environment.task
    marks = [task.marker(goal) for goal in desired_goal]
    return np.array([position for position, _ in marks], np.float64), float(marks[0][1])
