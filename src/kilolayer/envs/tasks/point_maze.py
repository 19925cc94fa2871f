"""Point mazes: drive a disc to a cell of a maze."""

import dataclasses
from functools import cached_property

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.envs.engines.point import PointPhysics
from kilolayer.envs.mazes.corridor import Corridor
from kilolayer.envs.mazes.maze import Maze
from kilolayer.envs.names import xyz
from kilolayer.envs.robots.disc import disc_in_maze
from kilolayer.errors import ConfigurationError


@dataclasses.dataclass(frozen=True, eq=False)
class PointMaze:
    """Reach the centre of a goal cell.

    The observation is the disc's position (x, y in metres) and velocity (metres per second); the goal is its position.
    An episode begins near the centre of a start cell, almost at rest. Its goal is the centre of a goal cell. Start and
    goal cells are drawn uniformly. Episodes end only by truncation.

    Raises:
        ConfigurationError: if starts could lie inside walls.
    """

    maze: Maze
    clearance: float = 0.25
    """Radius of the disc, in metres: its centre cannot come nearer to a wall."""
    force: float = 5.0
    """Force of an action of 1, in newtons."""
    success_distance: float = 0.5
    """The goal is reached below this distance, in metres."""
    start_noise: float = 0.5
    """Half the edge of the square in which episodes begin, in metres."""
    start_speed: float = 0.1
    """Standard deviation of each component of the velocity at the start, in metres per second."""
    cruising_speed: float = 2.0
    """Typical speed of a disc on its way, in metres per second; used by `observations_at`."""

    def __post_init__(self) -> None:
        """Validate the start noise.

        Raises:
            ConfigurationError: if starts could lie inside walls.
        """
        room = 0.5 * self.maze.cell_size - self.clearance
        if not 0.0 <= self.start_noise <= room:
            raise ConfigurationError(
                f"start_noise={self.start_noise} m must be from 0 to {room} m; larger values start discs inside walls"
            )

    observation_size = 4
    goal_size = 2
    action_size = 2

    engines = ("point",)
    has_body = False
    """The disc stands for a place: a report shows the maze in its stead."""

    observation_names = (*xyz("disc", axes="xy"), *xyz("disc velocity", "m/s", axes="xy"))
    goal_names = xyz("disc", axes="xy")

    @property
    def action_names(self) -> tuple[str, ...]:
        """Name, range and unit of each entry of an action."""
        return tuple(f"force {axis} ({-self.force:g} to {self.force:g} N)" for axis in "xy")

    def reset(self, key: PRNGKeyArray) -> tuple[PointPhysics, Float[Array, "2"]]:
        """Draw the start of an episode and its goal."""
        start_key, goal_key = jax.random.split(key)
        return self._start(start_key), self._goal(goal_key)

    def _start(self, key: PRNGKeyArray) -> PointPhysics:
        """Draw a position near the centre of a start cell, and a small velocity."""
        cell_key, place_key, speed_key = jax.random.split(key, 3)
        centres = jnp.asarray(self.maze.centres(self.maze.start_cells))
        return self._around(jax.random.choice(cell_key, centres), place_key, speed_key)

    def _around(self, centre: Float[Array, "2"], place_key: PRNGKeyArray, speed_key: PRNGKeyArray) -> PointPhysics:
        """Draw a position near the centre of a cell, and a small velocity."""
        noise = jax.random.uniform(place_key, (2,), minval=-self.start_noise, maxval=self.start_noise)
        return PointPhysics(position=centre + noise, velocity=self.start_speed * jax.random.normal(speed_key, (2,)))

    def _goal(self, key: PRNGKeyArray) -> Float[Array, "2"]:
        """Draw the centre of a goal cell."""
        return jax.random.choice(key, jnp.asarray(self.maze.centres(self.maze.goal_cells)))

    def control(self, action: Float[Array, "2"]) -> Float[Array, "2"]:
        """Return the force on the disc, in newtons."""
        return self.force * action

    def observe(self, physics: PointPhysics) -> Float[Array, "4"]:
        """Return position and velocity."""
        return jnp.concatenate([physics.position, physics.velocity])

    def observations_at(self, position: Float[Array, "2"]) -> Float[Array, "8 4"]:
        """Return the observations at a position, moving at `cruising_speed` in each of eight directions.

        The disc is not at rest: trained discs rest only at goals, so states at rest elsewhere have low values.

        Args:
            position: x and y in metres.
        """
        angles = jnp.arange(8) * (jnp.pi / 4)
        velocity = self.cruising_speed * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
        return jnp.concatenate([jnp.broadcast_to(position, velocity.shape), velocity], axis=-1)

    def achieved_goal(self, physics: PointPhysics) -> Float[Array, "2"]:
        """Return the position."""
        return physics.position

    def current_goal(self, physics: PointPhysics, desired_goal: Float[Array, "2"]) -> Float[Array, "2"]:
        """Return the desired goal, which does not move."""
        del physics
        return desired_goal

    def success(self, achieved_goal: Float[Array, "2"], desired_goal: Float[Array, "2"]) -> Bool[Array, ""]:
        """Return whether the disc is within `success_distance` of the goal."""
        return jnp.linalg.norm(achieved_goal - desired_goal) < self.success_distance

    def reward(self, achieved_goal: Float[Array, "2"], desired_goal: Float[Array, "2"]) -> Float[Array, ""]:
        """Return the negative distance to the goal, in metres."""
        return -jnp.linalg.norm(achieved_goal - desired_goal)

    def failed(self, physics: PointPhysics) -> Bool[Array, ""]:
        """Return False: an episode never terminates as a failure."""
        return jnp.zeros((), bool)

    def scene(self) -> mujoco.MjSpec:
        """Return the disc between the walls, for pictures."""
        return disc_in_maze(self.maze, self.clearance)

    def scene_qpos(self, physics: PointPhysics) -> Float[Array, "*num_envs 2"]:
        """Return x and y of the disc in metres."""
        return physics.position

    def marker(self, desired_goal: Float[np.ndarray, "2"]) -> tuple[Float[np.ndarray, "3"], float]:
        """Return the goal on the floor, and the success distance as its radius."""
        return np.array([*desired_goal, 0.0], np.float32), self.success_distance


@dataclasses.dataclass(frozen=True, eq=False)
class PointCorridor(PointMaze):
    """Drive a few cells along a corridor: short pieces of a path, which an agent has to combine at evaluation.

    An episode begins near the centre of any cell, and its goal is the centre of a cell farther along the corridor, one
    of `distances` cells away (`Corridor.draw_pair`). Everything else is as in `PointMaze`.

    Source: the paper's experiment on stitching, which uses an ant (`AntCorridor`).

    Raises:
        ConfigurationError: as `PointMaze` and `Corridor`.
    """

    distances: tuple[int, ...] = dataclasses.field(kw_only=True)
    """Distances between start and goal in cells, each from 1 to the length of the corridor."""

    def __post_init__(self) -> None:
        """Validate start noise, maze and distances.

        Raises:
            ConfigurationError: as `PointMaze` and `Corridor`.
        """
        super().__post_init__()
        _ = self.corridor

    @cached_property
    def corridor(self) -> Corridor:
        """The corridor from which pairs of start and goal are drawn."""
        return Corridor(self.maze, self.distances)

    def reset(self, key: PRNGKeyArray) -> tuple[PointPhysics, Float[Array, "2"]]:
        """Draw a start, and a goal farther along the corridor."""
        pair_key, place_key, speed_key = jax.random.split(key, 3)
        centre, goal = self.corridor.draw_pair(pair_key)
        return self._around(centre, place_key, speed_key), goal


PUSHES = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)], np.float32)
"""Continuous action for each discrete one: zero, then eight directions."""


@dataclasses.dataclass(frozen=True, eq=False)
class DiscretePointMaze(PointMaze):
    """A point maze with nine discrete actions: no force, or full force along one or both axes, in eight directions.

    The directions go from +x towards +y. An action has nine entries; its largest entry is the choice.
    """

    action_size = len(PUSHES)
    discrete_actions = True
    action_names = ("no force", *(f"force at {angle} degrees from x" for angle in range(0, 360, 45)))

    def control(self, action: Float[Array, "9"]) -> Float[Array, "2"]:
        """Return the force of the choice, in newtons."""
        return super().control(jnp.asarray(PUSHES)[jnp.argmax(action)])
