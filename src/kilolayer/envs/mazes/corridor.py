"""Corridors: mazes without branches, with pairs of start and goal at given distances."""

import dataclasses
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from kilolayer.envs.mazes.maze import Maze
from kilolayer.errors import ConfigurationError


@dataclasses.dataclass(frozen=True)
class Corridor:
    """A maze that is a single corridor of cells p_0 (the start cell), ..., p_L, and pairs of start and goal in it.

    Source: the paper's experiment on stitching, which trains on near pairs and evaluates on far ones.

    Args:
        maze: a single corridor with its start cell at one end; its goal cells are not used.
        distances: distances between start and goal in cells, each from 1 to the length L of the corridor.

    Raises:
        ConfigurationError: if the maze is not a single corridor, or the distances are empty, repeated or too large.
    """

    maze: Maze
    distances: tuple[int, ...]

    def __post_init__(self) -> None:
        """Validate the distances and the maze."""
        if not self.distances:
            raise ConfigurationError(
                f"distances is empty; it needs at least one number from 1 to {self.length} (cells)"
            )
        for number, distance in enumerate(self.distances):
            if not 1 <= distance <= self.length:
                raise ConfigurationError(
                    f"distances={list(self.distances)}: {distance} must be from 1 to {self.length}, the corridor's "
                    "length in cells"
                )
            if distance in self.distances[:number]:
                raise ConfigurationError(f"distances={list(self.distances)}: {distance} is listed twice")

    @property
    def length(self) -> int:
        """Distance from the start cell to the far end, in cells: L."""
        return len(self.path) - 1

    @cached_property
    def path(self) -> Int[np.ndarray, "cells 2"]:
        """Row and column of the corridor's cells, from the start cell to the far end.

        Raises:
            ConfigurationError: if the maze is not a single corridor.
        """
        if len(self.maze.start_cells) > 1:
            raise ConfigurationError(
                f"the maze has {len(self.maze.start_cells)} starts; a corridor has a single 'R' at one end"
            )
        lengths = self.maze.path_lengths(self.maze.start_cells)[tuple(self.maze.free_cells.T)]
        order = np.argsort(lengths, kind="stable")
        # In a corridor there is one cell at each distance from the end. If it has a branch, or continues behind the
        # start, two cells have the same distance; a cell that cannot be reached has length -1.
        for cell, length, expected in zip(self.maze.free_cells[order], lengths[order], range(len(order)), strict=True):
            if length != expected:
                row, column = cell + 1
                raise ConfigurationError(
                    f"maze line {row}, column {column}: because of this cell the maze is not a single corridor "
                    "that begins at 'R'"
                )
        return self.maze.free_cells[order]

    def draw_pair(self, key: PRNGKeyArray) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
        """Draw a pair of start and goal.

        The distance k is uniform over `distances`, and then the start p_i is uniform over the cells for which the goal
        p_{i+k} exists.

        Returns:
            The centres (x, y in metres) of start cell and goal cell.
        """
        distance_key, cell_key = jax.random.split(key)
        centres = jnp.asarray(self.maze.centres(self.path))
        distance = jax.random.choice(distance_key, jnp.asarray(self.distances))
        cell = jax.random.randint(cell_key, (), 0, len(self.path) - distance)
        return centres[cell], centres[cell + distance]

    def distances_between(
        self, starts: Float[np.ndarray, "episodes 2"], goals: Float[np.ndarray, "episodes 2"]
    ) -> Int[np.ndarray, " episodes"]:
        """Return the distances from starts to goals along the corridor, in cells.

        Args:
            starts: x and y of each start, in metres.
            goals: x and y of each goal, in metres.

        Returns:
            One number for each pair; negative if the goal is nearer to the start cell than the start is.
        """
        along = self.maze.path_lengths(self.maze.start_cells)
        start_cells, goal_cells = (np.rint(places / self.maze.cell_size).astype(int) for places in (starts, goals))
        return along[tuple(goal_cells.T)] - along[tuple(start_cells.T)]
