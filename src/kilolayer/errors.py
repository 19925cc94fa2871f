"""Errors that are the user's to mend: one line that says what was wrong, where, and what would be right."""

import difflib
from collections.abc import Iterable


class KilolayerError(Exception):
    """Something a user can put right. The command line prints it as one line and exits with code 2."""


class ConfigurationError(KilolayerError, ValueError):
    """A setting, or a combination of settings, that cannot be."""


class RunError(KilolayerError):
    """A run directory or checkpoint that cannot be read or written."""


class TrainingError(KilolayerError):
    """Training had to stop: a number that is not finite, or a save that failed."""


def nearest_names(
    name: str, names: Iterable[str], *, count: int = 3, listing: str = "`kilolayer envs` lists them"
) -> str:
    """Return the names most like `name`, as text for an error line ("did you mean a, b?").

    Args:
        name: what was asked for.
        names: what there is.
        count: names to return at most.
        listing: what to say where no name is like it and there are many.
    """
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=count, cutoff=0.4)
    if close:
        return f"did you mean {', '.join(close)}?"
    return f"there are {', '.join(names)}" if len(names) <= 8 else listing
