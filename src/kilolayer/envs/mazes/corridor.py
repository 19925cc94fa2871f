"""Corridors: mazes without branches, in which starts and goals are so many cells apart."""

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
    """The cells p_0 (the start cell), ..., p_L of a maze that is a single corridor, and pairs of them.

    Source: the paper's study of stitching, which trains on short pairs and evaluates on long ones.

    Args:
        maze: a single corridor with its start cell at one end; its goal cells play no part.
        distances: ways between start and goal, in cells, each from 1 to the corridor's length L.

    Raises:
        ConfigurationError: for a maze that is no single corridor; for distances that are none, that repeat, or that
            the corridor does not have.
    """

    maze: Maze
    distances: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check the distances, and with them the maze."""
        if not self.distances:
            raise ConfigurationError(f"distances are none; list at least one from 1 to {self.length} cells")
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
        """Cells from the start cell to the far end: L."""
        return len(self.path) - 1

    @cached_property
    def path(self) -> Int[np.ndarray, "cells 2"]:
        """Row and column of the corridor's cells, from the start cell to the far end.

        Raises:
            ConfigurationError: if the maze is no single corridor.
        """
        if len(self.maze.start_cells) > 1:
            raise ConfigurationError(
                f"the maze has {len(self.maze.start_cells)} starts; a corridor has one 'R', at one end"
            )
        lengths = self.maze.path_lengths(self.maze.start_cells)[tuple(self.maze.free_cells.T)]
        order = np.argsort(lengths, kind="stable")
        # A corridor has one cell at each distance from its end. Where it forks, or runs on behind the start, two cells
        # are equally far; a cell that no way leads to has length -1.
        for cell, length, expected in zip(self.maze.free_cells[order], lengths[order], range(len(order)), strict=True):
            if length != expected:
                row, column = cell + 1
                raise ConfigurationError(
                    f"maze line {row}, column {column}: this cell makes the maze more than a single corridor "
                    "that begins at 'R'"
                )
        return self.maze.free_cells[order]

    def draw_pair(self, key: PRNGKeyArray) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
        """Draw the centres of a start cell and of a goal cell, in metres.

        A distance k is drawn, each as likely as any other; then, evenly, a cell p_i such that p_{i+k} exists.
        """
        distance_key, cell_key = jax.random.split(key)
        centres = jnp.asarray(self.maze.centres(self.path))
        distance = jax.random.choice(distance_key, jnp.asarray(self.distances))
        cell = jax.random.randint(cell_key, (), 0, len(self.path) - distance)
        return centres[cell], centres[cell + distance]

    def distances_between(
        self, starts: Float[np.ndarray, "episodes 2"], goals: Float[np.ndarray, "episodes 2"]
    ) -> Int[np.ndarray, " episodes"]:
        """Return how many cells along the corridor goals are ahead of starts, from places in metres."""
        along = self.maze.path_lengths(self.maze.start_cells)
        start_cells, goal_cells = (np.rint(places / self.maze.cell_size).astype(int) for places in (starts, goals))
        return along[tuple(goal_cells.T)] - along[tuple(start_cells.T)]
