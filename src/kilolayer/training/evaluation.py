"""Evaluation: whole episodes, from reset to their end, and their metrics."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.agents import ActionMode, Agent, AgentState
from kilolayer.envs import Environment
from kilolayer.memory import return_unused_memory

METRICS = ("time_at_goal", "success_any", "success_final", "return", "episode_length")

SHARES = ("begins_at_goal", "diverged")
"""Fields of `Episodes` whose share of the episodes is reported, too."""

PROGRAMS = 8
"""Compiled evaluations that a process keeps."""


class Steps(eqx.Module):
    """Observations, actions and goals of each step."""

    observation: Float[Array, "length episodes observation"]
    action: Float[Array, "length episodes action"]
    desired_goal: Float[Array, "length episodes goal"]
    """Of that step: the goals of some tasks move."""


class Episodes(eqx.Module):
    """One episode of each environment, step by step. Steps after the end of an episode are not part of it."""

    desired_goal: Float[Array, "episodes goal"]
    achieved_goal: Float[Array, "length_and_one episodes goal"]
    """The goal that each state achieves, the first state included."""
    success: Bool[Array, "length episodes"]
    reward: Float[Array, "length episodes"]
    alive: Bool[Array, "length episodes"]
    """The step belongs to the episode."""
    begins_at_goal: Bool[Array, " episodes"]
    """The start is at the goal already, so that a success may be the start's."""
    diverged: Bool[Array, " episodes"]
    """The episode ended because the robot's simulation diverged."""
    finite: Bool[Array, ""]
    """All observations and actions of the episodes are finite numbers."""
    steps: Steps | None = None
    """None by default, because it takes much more memory than everything else."""

    def metrics(self) -> dict[str, Float[np.ndarray, " episodes"]]:
        """Return the metrics of each episode, by the names in `METRICS`.

        Returns:
            `time_at_goal`: steps at the goal. `success_any`: 1 if there is at least one. `success_final`: 1 if the last
            step is one. `return`: sum of rewards. `episode_length`: number of steps.
        """
        alive, success = np.asarray(self.alive), np.asarray(self.success & self.alive)
        length = alive.sum(axis=0)
        values = {
            "time_at_goal": success.sum(axis=0),
            "success_any": success.any(axis=0),
            "success_final": success[length - 1, np.arange(length.size)],
            "return": np.where(alive, np.asarray(self.reward), 0.0).sum(axis=0),
            "episode_length": length,
        }
        return {name: values[name].astype(np.float64) for name in METRICS}


def run_episodes(
    agent: Agent,
    agent_state: AgentState,
    environment: Environment,
    key: PRNGKeyArray,
    *,
    num_episodes: int,
    mode: ActionMode = "deterministic",
    keep_steps: bool = False,
) -> Episodes:
    """Run episodes in parallel, each from reset to its end.

    Args:
        agent: chooses the actions.
        agent_state: of the agent.
        environment: to run in.
        key: randomness of starts, goals and actions.
        num_episodes: how many episodes.
        mode: how actions are chosen.
        keep_steps: keep observations, actions and goals of every step.
    """
    hashable: Any = agent
    return _program(hashable, environment, num_episodes, mode, keep_steps)(agent_state, key)


def lower_episodes(
    agent: Agent, agent_state: AgentState, environment: Environment, key: PRNGKeyArray, *, num_episodes: int
) -> jax.stages.Lowered:
    """Return the program that `run_episodes` runs, ready to be compiled; the arguments may be shapes."""
    hashable: Any = agent
    return _program(hashable, environment, num_episodes, "deterministic", False).lower(agent_state, key)


@functools.lru_cache(maxsize=PROGRAMS)
def _program(
    agent: Any, environment: Environment, num_episodes: int, mode: ActionMode, keep_steps: bool
) -> jax.stages.Wrapped:
    """Return the compiled function that runs episodes, kept for the next call.

    Only the last few are kept, with their agents and environments: a process may load many runs.
    """
    return_unused_memory()
    return jax.jit(
        lambda agent_state, key: _run(
            agent, agent_state, environment, key, num_episodes=num_episodes, mode=mode, keep_steps=keep_steps
        )
    )


def _run(
    agent: Agent,
    agent_state: AgentState,
    environment: Environment,
    key: PRNGKeyArray,
    *,
    num_episodes: int,
    mode: ActionMode,
    keep_steps: bool,
) -> Episodes:
    reset_key, act_key = jax.random.split(key)
    start = environment.reset(reset_key, num_episodes, action_chunk=agent.executed_actions)

    def step(carry: tuple, key: PRNGKeyArray) -> tuple[tuple, tuple]:
        state, alive, diverged = carry
        observation, desired_goal = state.observation, state.desired_goal
        state, action, result = environment.advance(
            state, lambda observation, goal: agent.act(agent_state, observation, goal, key, mode)
        )
        seen = Steps(observation, action, desired_goal) if keep_steps else None
        finite = jnp.isfinite(result.observation).all(axis=-1) & jnp.isfinite(action).all(axis=-1)
        record = (result.achieved_goal, result.success, result.reward, alive, jnp.all(finite | ~alive), seen)
        return (state, alive & ~result.done, diverged | (alive & result.diverged)), record

    everywhere = jnp.ones(num_episodes, bool)
    (last, _, diverged), (achieved_goal, success, reward, alive, finite, steps) = jax.lax.scan(
        step, (start, everywhere, ~everywhere), jax.random.split(act_key, environment.episode_length)
    )
    environment.release(last)
    return Episodes(
        desired_goal=start.desired_goal,
        achieved_goal=jnp.concatenate([start.achieved_goal[None], achieved_goal]),
        success=success,
        reward=reward,
        alive=alive,
        begins_at_goal=jax.vmap(environment.task.success)(start.achieved_goal, start.desired_goal),
        diverged=diverged,
        finite=jnp.all(finite),
        steps=steps,
    )


def summarize(episodes: Episodes) -> dict[str, float]:
    """Return the means of episodes by their names in metrics.jsonl.

    Returns:
        `eval/NAME`, the mean over episodes, and `eval/NAME_stderr`, its standard error, for each metric; `eval/NAME`
        for each name in `SHARES`; and `eval/success_any_elsewhere`, success_any of the episodes that do not begin at
        their goal. NaN where there are too few episodes.
    """
    summary = {}
    found = episodes.metrics()
    for name, values in found.items():
        summary[f"eval/{name}"] = float(values.mean())
        summary[f"eval/{name}_stderr"] = (
            float(values.std(ddof=1) / values.size**0.5) if values.size > 1 else float("nan")
        )
    elsewhere = ~np.asarray(episodes.begins_at_goal)
    return summary | {
        **{f"eval/{name}": float(np.mean(getattr(episodes, name))) for name in SHARES},
        "eval/success_any_elsewhere": float(found["success_any"][elsewhere].mean())
        if elsewhere.any()
        else float("nan"),
    }


def remarks(row: Mapping[str, Any]) -> list[str]:
    """Return what a reader of the means must know: episodes that begin at their goal, and robots that diverged."""
    found = []
    if begins := row.get("eval/begins_at_goal"):
        others = row["eval/success_any_elsewhere"]
        rest = "" if math.isnan(others) else f"; of the others success_any is {others:.3f}"
        found.append(f"{begins:.1%} of the episodes begin at their goal{rest}")
    if diverged := row.get("eval/diverged"):
        found.append(f"{diverged:.1%} of the episodes ended because the robot diverged")
    return found


def ends_at_once(row: Mapping[str, Any]) -> bool:
    """Return whether every episode of an evaluation ended in its first step, so that there was nothing to learn."""
    return bool(row["eval/episode_length"] == 1.0)
