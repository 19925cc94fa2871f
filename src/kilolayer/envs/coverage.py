"""How far random actions get: what an agent can find before it has learnt anything."""

import csv
import dataclasses
import functools
import importlib.resources
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.envs.entries import common_unit
from kilolayer.envs.environment import Environment, EnvironmentState
from kilolayer.envs.interface import Task

RECORDED = "coverage.csv"
"""What `kilolayer envs explore` measured of the tasks that come with the library."""

MOVED = 0.01
"""Distance by which an achieved goal has moved, if the task has no success distance."""


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Distances between the goal that is achieved at the start of an episode and those after it, over episodes."""

    median: float
    """Of the farthest distance of each episode."""
    ninety: float
    """The 90 % quantile of it."""
    farthest: float
    """The largest."""
    moved: float
    """Share of the episodes that leave their start: what is achieved there would not be a success any more."""
    lived: float
    """Mean steps of the episodes."""
    unit: str = ""
    """Of the distances, such as m; empty if the task does not name its goals."""

    def __str__(self) -> str:
        """Return it as text."""
        unit = f" {self.unit}" if self.unit else ""
        return (
            f"the achieved goal gets {self.median:.2g}{unit} away from its start (median; 90 %: {self.ninety:.2g}, "
            f"largest {self.farthest:.2g}), farther than the success distance in {self.moved:.0%} of the episodes, "
            f"which last {self.lived:.0f} steps"
        )


def coverage_of(
    task: Task,
    start: Float[np.ndarray, "episodes goal"],
    achieved_goal: Float[np.ndarray, "steps episodes goal"],
    ends: Bool[np.ndarray, "steps episodes"],
) -> Coverage:
    """Return how far the first episodes got.

    Args:
        task: whose success distance counts.
        start: goals achieved at the start.
        achieved_goal: goals achieved after each step.
        ends: the episode ends with the step.
    """
    within = np.cumsum(ends, axis=0) - ends == 0  # the step that ends the first episode is its last
    away = np.where(within, np.linalg.norm(achieved_goal - start, axis=-1), 0.0).max(axis=0)
    return Coverage(
        median=float(np.median(away)),
        ninety=float(np.quantile(away, 0.9)),
        farthest=float(away.max()),
        moved=float(np.any(within & ~_still(task, start, achieved_goal), axis=0).mean()),
        lived=float(within.sum(axis=0).mean()),
        unit=common_unit(task, "goal"),
    )


def _still(
    task: Task, start: Float[np.ndarray, "episodes goal"], achieved_goal: Float[np.ndarray, "steps episodes goal"]
) -> Bool[np.ndarray, "steps episodes"]:
    """Return whether an achieved goal counts as that of the start, by the task's own rule of success."""
    if not getattr(task, "has_success", getattr(task, "success_distance", None) is not None):
        return np.linalg.norm(achieved_goal - start, axis=-1) <= MOVED
    of_step = jax.vmap(jax.vmap(task.success), in_axes=(0, None))
    return np.asarray(of_step(jnp.asarray(achieved_goal), jnp.asarray(start)))


def explore(environment: Environment, *, num_envs: int = 64, seed: int = 0, held: int = 1) -> Coverage:
    """Take random actions in an episode of each environment: the tanh of normal numbers, as an untrained policy draws.

    Args:
        environment: continuous or discrete.
        num_envs: episodes.
        seed: of starts and actions.
        held: steps for which an action is kept.
    """
    program = jax.jit(functools.partial(_explored, environment, num_envs, held))
    start, achieved_goal, ends = (np.asarray(array) for array in program(jax.random.key(seed)))
    return coverage_of(environment.task, start, achieved_goal, ends)


def _explored(environment: Environment, num_envs: int, held: int, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
    reset_key, act_key = jax.random.split(key)
    state = environment.reset(reset_key, num_envs)

    def step(state: EnvironmentState, time: Array) -> tuple[EnvironmentState, tuple[Array, Array]]:
        drawn = jax.random.normal(jax.random.fold_in(act_key, time // held), (num_envs, environment.action_size))
        state, result = environment.step(state, jnp.tanh(drawn))
        return state, (result.achieved_goal, result.done)

    _, (achieved_goal, ends) = jax.lax.scan(step, state, jnp.arange(environment.episode_length))
    return state.achieved_goal, achieved_goal, ends


@functools.cache
def recorded() -> tuple[dict[str, Any], ...]:
    """Return what was measured of the library's tasks: `env`, `variant`, `engine`, and the fields of `Coverage`."""
    text = importlib.resources.files("kilolayer.envs").joinpath(RECORDED).read_text()
    names = {field.name for field in dataclasses.fields(Coverage) if field.type is float}
    return tuple(
        {name: float(value) if name in names else value for name, value in row.items()}
        for row in csv.DictReader(text.splitlines())
    )


def recorded_of(env: str) -> list[tuple[str, str, Coverage]]:
    """Return variant, engine and coverage of each form of a task that was measured; empty for others."""
    forms = []
    for row in recorded():
        if row["env"] == env:
            values = {field.name: row[field.name] for field in dataclasses.fields(Coverage)}
            forms.append((row["variant"], row["engine"], Coverage(**values)))
    return forms
