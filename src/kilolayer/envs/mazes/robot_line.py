"""The first line of a maze that names its robot: `robot: ant`."""

import re

_LINE = re.compile(r"\A\s*robot:[ \t]*(\w+)[ \t]*\r?(?:\n|\Z)")


def split_robot(text: str) -> tuple[str | None, str]:
    """Return the robot that the first line of a maze names, and the maze without this line.

    Args:
        text: a maze, or a line such as `robot: ant` before one.

    Returns:
        The robot's name, or None if the text names none; and the maze.
    """
    found = _LINE.match(text)
    return (found[1], text[found.end() :]) if found else (None, text)


def with_robot(text: str, robot: str) -> str:
    """Return a maze that names a robot in its first line, whichever it named before."""
    return f"robot: {robot}\n{split_robot(text)[1]}"
