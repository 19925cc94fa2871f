"""The critic's value of every place of a maze."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Float

from kilolayer.envs import Environment, Maze, MazeTask
from kilolayer.envs.mazes.geodesic import free_points, shortest_paths
from kilolayer.policies import Policy

POINTS_PER_CELL = 10


@dataclasses.dataclass(frozen=True)
class ValueMap:
    """The critic's value and the true distance of every reachable place, for one goal.

    The value is relative: V(s, g) minus the mean of V(s, c) over the centres c of all free cells. It shows how much
    nearer than an average cell the goal is, as seen from the place. An offset that depends on the state alone cancels.
    A critic can have any such offset: forward InfoNCE does not determine it, and an actor never sees it, since it
    compares actions in the same state. The values themselves are not ordered by distance once the policy is good:
    a contrastive critic estimates log p(g | s, a) / p(g) in the agent's own data, and this is mostly how likely the
    agent is on its way to g. `docs/studies/value_map.md` has the numbers, and the limits that remain.
    """

    goal: Float[np.ndarray, "2"]
    points: Float[np.ndarray, "points 2"]
    """x and y in metres."""
    value: Float[np.ndarray, " points"]
    """The critic's relative value, mean over the task's typical states at the place; larger is nearer."""
    distance: Float[np.ndarray, " points"]
    """Metres to the goal along the shortest path."""

    @property
    def rank_correlation(self) -> float:
        """Spearman's correlation of the value with minus the distance: 1 if the value orders all places correctly."""
        return float(scipy.stats.spearmanr(self.value, -self.distance).statistic)

    @property
    def euclidean_correlation(self) -> float:
        """Spearman's correlation of the value with minus the straight-line distance, which ignores walls."""
        straight = np.linalg.norm(self.points - self.goal, axis=-1)
        return float(scipy.stats.spearmanr(self.value, -straight).statistic)


class ValueMaps:
    """The critic's relative values of the places of a maze, for one goal after another."""

    def __init__(self, policy: Policy, environment: Environment, *, per_cell: int = POINTS_PER_CELL):
        """Compute what is the same for all goals.

        Args:
            policy: its agent has a value.
            environment: its task is a `MazeTask`.
            per_cell: places along the edge of a cell.
        """
        task = environment.task
        assert isinstance(task, MazeTask)
        self._policy, self._task, self._per_cell = policy, task, per_cell
        self._points = free_points(task.maze, task.clearance, per_cell=per_cell)
        self._observations = jax.vmap(task.observations_at)(jnp.asarray(self._points, jnp.float32))
        self._of_cells = np.mean([self._values(centre) for centre in task.maze.centres(task.maze.free_cells)], axis=0)

    def of(self, goal: Float[np.ndarray, "2"]) -> ValueMap:
        """Return the map for a goal: x and y in metres."""
        task = self._task
        distance = shortest_paths(task.maze, task.clearance, goal, per_cell=self._per_cell)
        reachable = np.isfinite(distance)
        value = (self._values(goal) - self._of_cells).mean(axis=1)
        return ValueMap(goal, self._points[reachable], value[reachable], distance[reachable])

    def _values(self, goal: Float[np.ndarray, "2"]) -> Float[np.ndarray, "points states"]:
        whole = whole_goal(self._task, goal)
        return self._policy.value(
            self._observations, np.broadcast_to(whole, (*self._observations.shape[:2], whole.size))
        )


def value_map(
    policy: Policy, environment: Environment, goal: Float[np.ndarray, "2"], *, per_cell: int = POINTS_PER_CELL
) -> ValueMap:
    """Compute the critic's relative value of the reachable places of a maze for one goal.

    Args:
        policy: its agent has a value.
        environment: its task is a `MazeTask`.
        goal: x and y in metres.
        per_cell: places along the edge of a cell.
    """
    return ValueMaps(policy, environment, per_cell=per_cell).of(goal)


def value_maps(policy: Policy, environment: Environment, goals: Float[np.ndarray, "goals 2"]) -> list[ValueMap]:
    """Compute the maps of several goals; see `value_map`."""
    maps = ValueMaps(policy, environment)
    return [maps.of(goal) for goal in goals]


def whole_goal(task: MazeTask, goal: Float[np.ndarray, "2"]) -> Float[np.ndarray, " goal"]:
    """Return a goal at x, y; its other numbers, such as a height, are as the task draws them."""
    _, drawn = task.reset(jax.random.key(0))
    return np.array([*goal, *np.asarray(drawn)[2:]], np.float32)


def chosen_goals(maze: Maze, *, count: int = 3) -> Float[np.ndarray, "goals 2"]:
    """Return x and y of up to `count` goals of a maze, from the farthest to the nearest."""
    lengths = maze.path_lengths(maze.start_cells)[tuple(maze.goal_cells.T)]
    order = np.argsort(-lengths, kind="stable")
    picks = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    return maze.centres(maze.goal_cells[order[picks]])
