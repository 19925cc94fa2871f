"""Mazes with starts and goals everywhere: the layouts of the library, and mazes drawn at random."""

from collections.abc import Sequence

import numpy as np

from kilolayer.envs.mazes.layouts import LAYOUTS
from kilolayer.errors import ConfigurationError

DRAWN = "drawn_"
"""Prefix of mazes drawn at random; the number of rooms along an edge follows."""


def maze_text(name: str) -> str:
    """Return a maze in which every free cell is a start or a goal, in a chessboard pattern.

    Args:
        name: a layout, or `drawn_N` for a random maze of N x N rooms.

    Raises:
        ConfigurationError: for another name.
    """
    size = name.removeprefix(DRAWN)
    if name.startswith(DRAWN) and size.isdecimal() and 2 <= int(size) <= 100:
        return with_starts_and_goals(perfect_maze(int(size)))
    if name in LAYOUTS:
        return with_starts_and_goals(LAYOUTS[name].split())
    raise ConfigurationError(
        f"task {name!r} is not a maze of this study; take {DRAWN}10 for 10 x 10 rooms, or one of {', '.join(LAYOUTS)}"
    )


def perfect_maze(size: int, *, openings: float = 0.1) -> list[str]:
    """Return a random maze of size x size rooms with one path between any two rooms, then with some walls opened.

    Args:
        size: rooms along an edge.
        openings: share of the inner walls to open.
    """
    edge = 2 * size + 1
    walls = np.ones((edge, edge), bool)
    draws = np.random.default_rng(0)
    walls[1, 1], stack = False, [(1, 1)]
    while stack:
        i, j = stack[-1]
        ways = [(a, b) for a, b in ((2, 0), (-2, 0), (0, 2), (0, -2)) if 0 < i + a < edge and 0 < j + b < edge]
        ways = [(a, b) for a, b in ways if walls[i + a, j + b]]
        if not ways:
            stack.pop()
            continue
        a, b = ways[draws.integers(len(ways))]
        walls[i + a // 2, j + b // 2] = walls[i + a, j + b] = False
        stack.append((i + a, j + b))
    inner = [(i, j) for i in range(1, edge - 1) for j in range(1, edge - 1) if walls[i, j] and i % 2 != j % 2]
    for i, j in inner:
        walls[i, j] = draws.random() >= openings
    return ["".join("#" if wall else "." for wall in row) for row in walls]


def with_starts_and_goals(rows: Sequence[str]) -> str:
    """Make the free cells of a maze starts (R) and goals (G) in a chessboard pattern."""
    return "".join(
        "".join("#" if cell == "#" else "RG"[(i + j) % 2] for j, cell in enumerate(row)) + "\n"
        for i, row in enumerate(rows)
    )
