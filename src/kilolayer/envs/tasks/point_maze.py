"""Point mazes: drive a disc to a cell of a maze."""

import dataclasses
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.envs.engines.point import PointPhysics
from kilolayer.envs.mazes.corridor import Corridor
from kilolayer.envs.mazes.maze import Maze
from kilolayer.errors import ConfigurationError


@dataclasses.dataclass(frozen=True, eq=False)
class PointMaze:
    """Reach the centre of a goal cell.

    The observation is x, y (metres) and their velocities (metres per second); the goal is x, y. An episode begins near
    the centre of a start cell, almost at rest, and its goal is the centre of a goal cell, each cell as likely as any
    other. Nothing ends an episode but its time.
    """

    maze: Maze
    clearance: float = 0.25
    """Metres: the radius of the disc."""
    force: float = 5.0
    """Newtons that an action of 1 pushes with."""
    success_distance: float = 0.5
    """Metres between disc and goal below which the goal is reached."""
    start_noise: float = 0.5
    """Metres: half the edge of the square in which episodes begin."""
    start_speed: float = 0.1
    """Metres per second: standard deviation of each velocity at the start."""
    cruising_speed: float = 2.0
    """Metres per second: how fast a disc typically is on its way."""

    def __post_init__(self) -> None:
        """Refuse starts inside walls.

        Raises:
            ConfigurationError: if the start noise reaches beyond the room that a cell leaves.
        """
        room = 0.5 * self.maze.cell_size - self.clearance
        if not 0.0 <= self.start_noise <= room:
            raise ConfigurationError(
                f"start_noise={self.start_noise} m must be from 0 to {room} m, or starts lie in walls"
            )

    observation_size = 4
    goal_size = 2
    action_size = 2

    engines = ("point",)

    def reset(self, key: PRNGKeyArray) -> tuple[PointPhysics, Float[Array, "2"]]:
        """Draw where an episode begins, and what it should reach."""
        start_key, goal_key = jax.random.split(key)
        return self._start(start_key), self._goal(goal_key)

    def _start(self, key: PRNGKeyArray) -> PointPhysics:
        """Draw a place around a start cell's centre, and a small velocity."""
        cell_key, place_key, speed_key = jax.random.split(key, 3)
        centres = jnp.asarray(self.maze.centres(self.maze.start_cells))
        return self._around(jax.random.choice(cell_key, centres), place_key, speed_key)

    def _around(self, centre: Float[Array, "2"], place_key: PRNGKeyArray, speed_key: PRNGKeyArray) -> PointPhysics:
        """Draw a place around a cell's centre, and a small velocity."""
        noise = jax.random.uniform(place_key, (2,), minval=-self.start_noise, maxval=self.start_noise)
        return PointPhysics(position=centre + noise, velocity=self.start_speed * jax.random.normal(speed_key, (2,)))

    def _goal(self, key: PRNGKeyArray) -> Float[Array, "2"]:
        """Draw a goal cell's centre."""
        return jax.random.choice(key, jnp.asarray(self.maze.centres(self.maze.goal_cells)))

    def control(self, action: Float[Array, "2"]) -> Float[Array, "2"]:
        """Return the force in newtons."""
        return self.force * action

    def observe(self, physics: PointPhysics) -> Float[Array, "4"]:
        """Return position and velocity."""
        return jnp.concatenate([physics.position, physics.velocity])

    def observations_at(self, position: Float[Array, "2"]) -> Float[Array, "8 4"]:
        """Return what the agent sees when it passes `position` at cruising speed in each of eight directions.

        Not at rest: a trained disc rests where its goal is, so resting far from a goal rightly has little future there.
        """
        angles = jnp.arange(8) * (jnp.pi / 4)
        velocity = self.cruising_speed * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
        return jnp.concatenate([jnp.broadcast_to(position, velocity.shape), velocity], axis=-1)

    def achieved_goal(self, physics: PointPhysics) -> Float[Array, "2"]:
        """Return the position."""
        return physics.position

    def current_goal(self, physics: PointPhysics, desired_goal: Float[Array, "2"]) -> Float[Array, "2"]:
        """Return the desired goal: it does not move."""
        del physics
        return desired_goal

    def success(self, achieved_goal: Float[Array, "2"], desired_goal: Float[Array, "2"]) -> Bool[Array, ""]:
        """Say whether the disc is within `success_distance` of the goal."""
        return jnp.linalg.norm(achieved_goal - desired_goal) < self.success_distance

    def reward(self, achieved_goal: Float[Array, "2"], desired_goal: Float[Array, "2"]) -> Float[Array, ""]:
        """Return minus the distance to the goal, in metres."""
        return -jnp.linalg.norm(achieved_goal - desired_goal)

    def failed(self, physics: PointPhysics) -> Bool[Array, ""]:
        """Return False: nothing can go wrong."""
        return jnp.zeros((), bool)


@dataclasses.dataclass(frozen=True, eq=False)
class PointCorridor(PointMaze):
    """Drive a few cells along a corridor, from anywhere in it: short ways that an agent can learn to join.

    An episode begins near the centre of a cell, and its goal is the centre of a cell farther along: always forward,
    and one of `distances` cells away (`Corridor.draw_pair`). All else is as in `PointMaze`.

    Source: the paper's study of stitching, whose robot is an ant (`AntCorridor`).
    """

    distances: tuple[int, ...] = dataclasses.field(kw_only=True)
    """Ways between start and goal, in cells, each from 1 to the corridor's length."""

    def __post_init__(self) -> None:
        """Refuse starts inside walls, and what is no corridor.

        Raises:
            ConfigurationError: as `PointMaze` and `Corridor`.
        """
        super().__post_init__()
        _ = self.corridor

    @cached_property
    def corridor(self) -> Corridor:
        """Its cells in order, and the pairs that are drawn."""
        return Corridor(self.maze, self.distances)

    def reset(self, key: PRNGKeyArray) -> tuple[PointPhysics, Float[Array, "2"]]:
        """Draw a start and a goal farther along the corridor."""
        pair_key, place_key, speed_key = jax.random.split(key, 3)
        centre, goal = self.corridor.draw_pair(pair_key)
        return self._around(centre, place_key, speed_key), goal


PUSHES = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)], np.float32)
"""Continuous actions that the discrete ones stand for: none, and pushes along and across the axes."""


@dataclasses.dataclass(frozen=True, eq=False)
class DiscretePointMaze(PointMaze):
    """A point maze with nine actions to choose among: no force, and full force in eight directions, from x to y."""

    action_size = len(PUSHES)
    discrete_actions = True

    def control(self, action: Float[Array, "9"]) -> Float[Array, "2"]:
        """Return the force in newtons of the choice, which is the largest of the numbers."""
        return super().control(jnp.asarray(PUSHES)[jnp.argmax(action)])
