"""Errors that a user can correct: one line with what was wrong, where, and what would be right."""

import difflib
import re
from collections.abc import Iterable

LONGEST_WORD = 400
"""Characters without a space in a message; of longer ones, the middle is left out."""

LONGEST_LINE = 900
"""Characters of a message, likewise."""


class KilolayerError(Exception):
    """An error that a user can correct. The command line prints it as one line and exits with code 2.

    The message is always one short line of printable characters, whatever names and files it speaks of.
    """

    def __init__(self, message: object = ""):
        """Create the error; `message` is shortened and escaped."""
        super().__init__(short_line(str(message)))


class ConfigurationError(KilolayerError, ValueError):
    """A setting, or a combination of settings, that is not valid."""


class UnknownNameError(ConfigurationError):
    """A name that nothing is registered under; a file of the user's own may register it."""

    files: tuple[str, ...] = ()
    """Files that a run was trained with, in which the name may be registered; they are never imported unasked."""


class RunError(KilolayerError):
    """A run directory or checkpoint that cannot be read or written."""


class TrainingError(KilolayerError):
    """Training stopped: a number is not finite, or a save failed."""


def short_line(text: str) -> str:
    """Return text as one short line: control characters are escaped, and the middle of what is too long is left out."""
    escaped = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    words = re.sub(rf"\S{{{LONGEST_WORD + 1},}}", lambda word: _without_middle(word[0], LONGEST_WORD), escaped)
    return _without_middle(words, LONGEST_LINE)


def _without_middle(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    head, tail = longest * 2 // 3, longest // 4
    return f"{text[:head]}[...]{text[-tail:]}"


def nearest_names(name: str, names: Iterable[str], *, count: int = 3, listing: str = "") -> str:
    """Return the names most similar to `name`, as text for an error line ("did you mean a, b?").

    Args:
        name: what was asked for.
        names: what there is.
        count: names to return at most.
        listing: text to return if no name is similar and there are many; empty to list all names.
    """
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=count, cutoff=0.4)
    if close:
        return f"did you mean {', '.join(close)}?"
    return f"there are {', '.join(names)}" if len(names) <= 8 or not listing else listing
