"""How many steps an agent needs to a goal from every place of a maze."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs import Environment, EnvironmentState, MazeTask
from kilolayer.envs.mazes.geodesic import free_points, shortest_paths
from kilolayer.policies import Policy
from kilolayer.training import run_episodes

MAX_ENV_STEPS = 100_000
"""Env steps that a map may take: slow robots start from fewer places."""
MOST_PER_CELL = 10
"""Places along the edge of a cell, at most."""
ROOM = 1 / 6
"""Least distance of a start from walls, in cells: legs reach farther than the centre's clearance."""
DRAWS = 256
"""Starts that the task draws, among which those for a goal are taken."""
SAME_PLACE = 1e-3
"""Metres."""


@dataclasses.dataclass(frozen=True)
class StepsMap:
    """The steps that an agent needs from each place to one goal, and the true distance."""

    goal: Float[np.ndarray, "2"]
    points: Float[np.ndarray, "points 2"]
    """x and y in metres."""
    steps: Float[np.ndarray, " points"]
    """Env steps until the goal is first reached; infinite where it is not reached in an episode."""
    distance: Float[np.ndarray, " points"]
    """Metres to the goal along the shortest path."""

    @property
    def rank_correlation(self) -> float:
        """Spearman's correlation of the steps with the distance: 1 if nearer places always need fewer steps.

        Places from which the goal is not reached share the last rank. 0 if all places need the same.
        """
        if np.unique(self.steps).size < 2:
            return 0.0
        return float(scipy.stats.spearmanr(self.steps, self.distance).statistic)

    @property
    def reached(self) -> float:
        """Share of places from which the goal is reached."""
        return float(np.isfinite(self.steps).mean())


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _StartsAtPlaces(Environment):
    """An environment whose first episodes begin at given places and have given goals."""

    places: Float[np.ndarray, "episodes 2"]
    goals: Float[np.ndarray, "episodes 2"]

    # Compiled programs are kept by environment, so one with other places must be another.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def reset(self, key: PRNGKeyArray, num_envs: int, *, action_chunk: int = 1) -> EnvironmentState:
        """Begin an episode at each place; `num_envs` is their number."""
        state = super().reset(key, num_envs, action_chunk=action_chunk)
        # A start can depend on the goal: take one that the task draws for this goal, and move it.
        starts, drawn = self.draw(key, DRAWS)
        goals = jnp.asarray(self.goals, jnp.float32)
        fits = jnp.linalg.norm(drawn[None, :, :2] - goals[:, None], axis=-1) < SAME_PLACE
        chosen = jnp.argmax(fits + jax.random.uniform(key, fits.shape), axis=1)
        starts = jax.tree.map(lambda leaf: leaf[chosen], starts)
        physics = self.engine.init(jax.vmap(moved)(starts, jnp.asarray(self.places, jnp.float32)))
        memory, observation, achieved_goal = self.first_look(physics, key)
        return dataclasses.replace(
            state,
            physics=physics,
            memory=memory,
            observation=observation,
            achieved_goal=achieved_goal,
            desired_goal=drawn[chosen].at[:, :2].set(goals),
        )


def moved(start: Any, place: Float[Array, "2"]) -> Any:
    """Return a start with the robot at x, y and all else as drawn; for discs, and robots with a free root."""
    if hasattr(start, "position"):
        return dataclasses.replace(start, position=place)
    return dataclasses.replace(start, qpos=start.qpos.at[:2].set(place))


def starting_at(
    environment: Environment, places: Float[np.ndarray, "episodes 2"], goals: Float[np.ndarray, "episodes 2"]
) -> Environment:
    """Return the environment with its first episodes at given places.

    All else about a start, such as posture and velocity, is drawn as the task draws it. Reset it with as many
    environments as there are places.

    Args:
        environment: its task is a `MazeTask`.
        places: x and y of each start, in metres.
        goals: x and y of each goal, in metres.
    """
    fields = {field.name: getattr(environment, field.name) for field in dataclasses.fields(Environment)}
    return _StartsAtPlaces(**fields, places=places, goals=goals)


def can_start_anywhere(environment: Environment) -> bool:
    """Return whether the robot of a maze task can be put at a place: False for starts of an unknown kind."""
    task = environment.task
    if not isinstance(task, MazeTask):
        return False
    start, _ = jax.eval_shape(task.reset, jax.random.key(0))
    if not (hasattr(start, "position") or hasattr(start, "qpos")):
        return False
    place = np.asarray(task.maze.centres(task.maze.free_cells)[-1:])
    state = starting_at(environment, place, place).reset(jax.random.key(0), 1)
    return bool(np.allclose(state.achieved_goal[:, :2], place, atol=SAME_PLACE))


def steps_map(
    policy: Policy, environment: Environment, goals: Float[np.ndarray, "goals 2"], *, per_cell: int | None = None
) -> list[StepsMap]:
    """Let the deterministic policy go to each goal from every place of a maze.

    Args:
        policy: the agent.
        environment: its task is a `MazeTask`, and `can_start_anywhere` holds.
        goals: x and y of each goal, in metres.
        per_cell: places along the edge of a cell; None takes as many as `MAX_ENV_STEPS` allow, at most 10.

    Returns:
        A map for each goal.
    """
    task = environment.task
    assert isinstance(task, MazeTask)
    per_cell = per_cell or _affordable(environment, task)
    clearance = _room(task)
    points = free_points(task.maze, clearance, per_cell=per_cell)
    maps = []
    for goal in goals:
        distance = shortest_paths(task.maze, clearance, goal, per_cell=per_cell)
        reachable = np.isfinite(distance)
        starts = points[reachable]
        from_places = starting_at(environment, starts, np.broadcast_to(goal, starts.shape))
        episodes = run_episodes(
            policy.agent, policy.agent_state, from_places, jax.random.key(0), num_episodes=len(starts)
        )
        success = np.asarray(episodes.success & episodes.alive)
        steps = np.where(success.any(axis=0), success.argmax(axis=0) + 1.0, np.inf)
        maps.append(StepsMap(goal, starts, steps, distance[reachable]))
    return maps


def _room(task: MazeTask) -> float:
    """Return how far from walls the starts are, in metres: a robot is wider than its centre's clearance."""
    return max(task.clearance, ROOM * task.maze.cell_size)


def _affordable(environment: Environment, task: MazeTask) -> int:
    """Return the most points along a cell's edge whose episodes take no more than `MAX_ENV_STEPS`."""
    for per_cell in range(MOST_PER_CELL, 1, -1):
        count = len(free_points(task.maze, _room(task), per_cell=per_cell))
        if count * environment.episode_length <= MAX_ENV_STEPS:
            return per_cell
    return 1
