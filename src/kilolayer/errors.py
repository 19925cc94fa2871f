"""Errors that a user can correct: one line with what was wrong, where, and what would be right."""

import difflib
from collections.abc import Iterable


class KilolayerError(Exception):
    """An error that a user can correct. The command line prints it as one line and exits with code 2."""


class ConfigurationError(KilolayerError, ValueError):
    """A setting, or a combination of settings, that is not valid."""


class RunError(KilolayerError):
    """A run directory or checkpoint that cannot be read or written."""


class TrainingError(KilolayerError):
    """Training stopped: a number is not finite, or a save failed."""


def nearest_names(
    name: str, names: Iterable[str], *, count: int = 3, listing: str = "`kilolayer envs` lists them"
) -> str:
    """Return the names most similar to `name`, as text for an error line ("did you mean a, b?").

    Args:
        name: what was asked for.
        names: what there is.
        count: names to return at most.
        listing: text to return if no name is similar and there are many.
    """
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=count, cutoff=0.4)
    if close:
        return f"did you mean {', '.join(close)}?"
    return f"there are {', '.join(names)}" if len(names) <= 8 else listing
