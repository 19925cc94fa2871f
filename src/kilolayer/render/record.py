"""Recording: evaluation episodes of a policy, with the pose of every step."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import PRNGKeyArray

from kilolayer.agents import ActionMode, Agent, AgentState
from kilolayer.envs import Environment, EnvironmentState
from kilolayer.envs.drawing import drawable_of, ghost_of, mark_of
from kilolayer.errors import ConfigurationError, TrainingError
from kilolayer.memory import return_unused_memory
from kilolayer.policies import Policy
from kilolayer.render.ghost import Placed, place_ghosts
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
        ConfigurationError: if neither the task nor its engine has a model to draw, the control step is unknown, or a
            goal's ghost does not fit the model.
        TrainingError: if a pose is not finite.
    """
    model = model_of(environment)
    reset_key, act_key = jax.random.split(key)
    agent: Any = policy.agent
    begin, run = _programs(agent, environment, num_episodes, mode)
    state = begin(reset_key)
    _ghost(environment, model, np.asarray(state.desired_goal[:1]), np.asarray(_qpos(environment, state)[0]))
    carry = (state, jnp.ones(num_episodes, bool))
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
        time_at_goal = int((reached & alive)[:, episode].sum())
        poses, goals = qpos[:length, episode], desired_goal[:length, episode]
        motions.append(motion_of(environment, model, poses, goals, success[:length, episode], time_at_goal))
    return scene_of(environment, model, motions)


def model_of(environment: Environment) -> mujoco.MjModel:
    """Return the model that pictures of an environment show: that of its task, or else of its engine.

    Raises:
        ConfigurationError: if neither has one.
    """
    return scene_model(drawable_of(environment.task, environment.engine))


def pose_at_start(environment: Environment, key: PRNGKeyArray) -> Scene:
    """Return a scene of one frame: a start and a goal drawn by the task.

    Args:
        environment: the environment.
        key: source of start and goal.
    """
    state = jax.jit(lambda key: environment.reset(key, 1))(key)
    model, qpos = model_of(environment), np.asarray(_qpos(environment, state))
    motion = motion_of(environment, model, qpos, np.asarray(state.desired_goal), np.zeros(1, bool), 0)
    return scene_of(environment, model, [motion])


def scene_of(environment: Environment, model: mujoco.MjModel, motions: list[Motion]) -> Scene:
    """Return a scene of motions that have been recorded.

    Args:
        environment: that they were recorded in.
        model: of the pictures, as `model_of` returns it.
        motions: of its robot.

    Raises:
        ConfigurationError: if the control step is unknown.
    """
    step = environment.control_step
    if step is None:
        raise ConfigurationError(
            f"{environment.name} has no control step; set `control_step` of its task to the seconds between two actions"
        )
    return Scene(
        name=environment.name,
        model=model,
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
    return drawable_of(environment.task, environment.engine).scene_qpos(state.physics)


def motion_of(
    environment: Environment,
    model: mujoco.MjModel,
    qpos: np.ndarray,
    desired_goal: np.ndarray,
    success: np.ndarray,
    time_at_goal: int,
) -> Motion:
    """Return an episode with what shows its goal.

    Args:
        environment: the environment.
        model: the model that is drawn.
        qpos: its joint positions in each frame.
        desired_goal: the goal in each frame.
        success: whether it is reached in each frame.
        time_at_goal: steps in which it is.

    Raises:
        ConfigurationError: if what shows the goal does not fit the model, or comes and goes.
    """
    still = bool((desired_goal == desired_goal[0]).all())
    marks = [mark_of(environment.task, goal) for goal in (desired_goal[:1] if still else desired_goal)]
    seen = [mark for mark in marks if mark is not None]
    if 0 < len(seen) < len(marks):
        raise ConfigurationError(f"marker of task {type(environment.task).__name__} gives a mark in some steps only")
    goal = np.array([position for position, _ in seen], np.float64)
    return Motion(
        qpos=qpos,
        goal=np.broadcast_to(goal, (len(qpos), 3)) if seen else None,
        radius=float(seen[0][1]) if seen else 0.0,
        success=success,
        time_at_goal=time_at_goal,
        ghost=_ghost(environment, model, desired_goal[:1] if still else desired_goal, qpos[0]),
    )


def _ghost(environment: Environment, model: mujoco.MjModel, goals: np.ndarray, start: np.ndarray) -> Placed | None:
    """Return the robot as goals have it, if the task shows that."""
    ghosts = [ghost for goal in goals if (ghost := ghost_of(environment.task, goal)) is not None]
    if 0 < len(ghosts) < len(goals):
        raise ConfigurationError(f"ghost of task {type(environment.task).__name__} gives a ghost in some steps only")
    return place_ghosts(model, ghosts, start) if ghosts else None
