"""Mazes as text: walls, start cells and goal cells on a grid.

The cell in row i (from the top) and column j (from the left) is a square centred at x = i * cell_size,
y = j * cell_size: rows count along x, columns along y.
"""

import dataclasses
from functools import cached_property

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from jaxtyping import Bool, Float, Int

from kilolayer.errors import ConfigurationError

WALL, START, GOAL = "#", "R", "G"
FREE = ". "


@dataclasses.dataclass(frozen=True)
class Maze:
    """A validated maze: a closed border, at least one start and one goal, and a path from a start to every goal.

    Args:
        text: one line for each row: `#` is a wall, `R` a start, `G` a goal, `.` or a space a free cell.
        cell_size: edge of a cell, in metres.

    Raises:
        ConfigurationError: if the text is not a valid maze; the message names the line and column.
    """

    text: str
    cell_size: float = 1.5

    def __post_init__(self) -> None:
        """Validate the text."""
        if not self.cell_size > 0:
            raise ConfigurationError(f"cell_size={self.cell_size} must be above 0 m")
        rows = self.rows
        if not rows:
            raise ConfigurationError("the maze is empty; draw it with '#' walls, an 'R' start and 'G' goals")
        for number, row in enumerate(rows, 1):
            if len(row) != len(rows[0]):
                raise ConfigurationError(
                    f"maze line {number} has {len(row)} cells, line 1 has {len(rows[0])}; all must have the same length"
                )
            for column, cell in enumerate(row, 1):
                if cell not in WALL + START + GOAL + FREE:
                    raise ConfigurationError(
                        f"maze line {number}, column {column}: {cell!r} is not a cell; use '#', 'R', 'G', '.' or space"
                    )
        edge = np.ones(self.walls.shape, bool)
        edge[1:-1, 1:-1] = False
        if (open_cells := np.argwhere(edge & ~self.walls)).size:
            row, column = open_cells[0] + 1
            raise ConfigurationError(f"maze line {row}, column {column}: the border must consist of '#'")
        for cell, what in ((START, "start"), (GOAL, "goal")):
            if not self._cells(cell).size:
                raise ConfigurationError(f"the maze has no {what}; mark at least one cell with {cell!r}")
        reachable = self.path_lengths(self.start_cells) >= 0
        for row, column in self.goal_cells:
            if not reachable[row, column]:
                raise ConfigurationError(
                    f"maze line {row + 1}, column {column + 1}: there is no path from a start to this goal"
                )

    @property
    def rows(self) -> list[str]:
        """Lines of the text, without empty lines at the beginning and end."""
        lines = [line.rstrip("\r") for line in self.text.split("\n")]
        filled = [number for number, line in enumerate(lines) if line.strip()]
        return lines[filled[0] : filled[-1] + 1] if filled else []

    @cached_property
    def walls(self) -> Bool[np.ndarray, "rows columns"]:
        """Whether each cell is a wall."""
        return np.array([[cell == WALL for cell in row] for row in self.rows])

    @cached_property
    def start_cells(self) -> Int[np.ndarray, "starts 2"]:
        """Row and column of every start."""
        return self._cells(START)

    @cached_property
    def goal_cells(self) -> Int[np.ndarray, "goals 2"]:
        """Row and column of every goal."""
        return self._cells(GOAL)

    @cached_property
    def free_cells(self) -> Int[np.ndarray, "cells 2"]:
        """Row and column of every cell that is not a wall."""
        return np.argwhere(~self.walls)

    def centres(self, cells: Int[np.ndarray, "cells 2"]) -> Float[np.ndarray, "cells 2"]:
        """Return the centres x, y of cells, in metres.

        Args:
            cells: row and column of each.
        """
        return cells.astype(np.float32) * np.float32(self.cell_size)

    def path_lengths(self, sources: Int[np.ndarray, "sources 2"]) -> Int[np.ndarray, "rows columns"]:
        """Return the length of the shortest path from the nearest source to each cell.

        Args:
            sources: row and column of each source.

        Returns:
            Steps between neighbouring cells; -1 for cells that cannot be reached, walls included.
        """
        rows, columns = self.walls.shape
        if not len(sources):
            return np.full((rows, columns), -1)
        cells = np.arange(rows * columns).reshape(rows, columns)
        right = ~(self.walls[:, :-1] | self.walls[:, 1:])
        down = ~(self.walls[:-1] | self.walls[1:])
        starts = np.concatenate([cells[:, :-1][right], cells[:-1][down]])
        ends = np.concatenate([cells[:, 1:][right], cells[1:][down]])
        edges = scipy.sparse.csr_array((np.ones(len(starts)), (starts, ends)), shape=(cells.size, cells.size))
        numbers = [columns * int(row) + int(column) for row, column in sources]
        lengths = scipy.sparse.csgraph.dijkstra(edges, directed=False, indices=numbers, unweighted=True, min_only=True)
        return np.where(np.isfinite(lengths), lengths, -1).astype(int).reshape(rows, columns)

    def _cells(self, kind: str) -> Int[np.ndarray, "cells 2"]:
        return np.argwhere(np.array([[cell == kind for cell in row] for row in self.rows])).reshape(-1, 2)
