"""The registry of studies: those of the library and those of a user's file, by name."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from kilolayer.errors import ConfigurationError, UnknownNameError, nearest_names
from kilolayer.studies.core.study import Study
from kilolayer.user_code import is_rerun

STUDIES: dict[str, Study] = {}
"""All registered studies by name."""

MADE: dict[str, Callable[[Mapping[str, Any]], Study]] = {}
"""Makes studies from the description that their results have, by the names of those that are made of what there is."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def register_study(study: Study) -> Study:
    """Add a study under its name and return it.

    Raises:
        ConfigurationError: if the name is taken, or has characters that do not suit the name of a file.
    """
    if not _NAME.fullmatch(study.name):
        raise ConfigurationError(f"study {study.name!r}: the name must consist of letters, digits, _ and -")
    if not is_rerun("study", study.name) and study.name in STUDIES:
        raise ConfigurationError(f"a study named {study.name!r} is registered already; choose another name")
    STUDIES[study.name] = study
    return study


def register_made_study(name: str, make: Callable[[Mapping[str, Any]], Study]) -> None:
    """Register how a study is made from the contents of its study.json, to draw its results again.

    Args:
        name: of studies that are not in the registry: they are made of existing runs.
        make: returns the study.
    """
    MADE[name] = make


def unregister_study(name: str) -> None:
    """Remove a study from the registry."""
    STUDIES.pop(name, None)


def find_study(name: str) -> Study:
    """Return the study called `name`.

    Raises:
        ConfigurationError: if there is none; the line names the nearest ones.
    """
    if name not in STUDIES:
        known = nearest_names(name, STUDIES, listing="`kilolayer study` lists them")
        raise UnknownNameError(f"study {name!r} is unknown; {known}")
    return STUDIES[name]
