"""Lists behind a flag, all written one way: one word with commas, ranges of numbers as `0..7`.

Each type below is for a field of options. Positional arguments are words of their own: `kilolayer compare RUN RUN`.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any

from tyro.constructors import PrimitiveConstructorSpec

from kilolayer.errors import ConfigurationError
from kilolayer.runs import parse_seeds
from kilolayer.settings import whole_numbers

BETWEEN_PAIRS = re.compile(r",(?=[A-Za-z_][\w.-]*=)")
"""A comma with NAME= behind it; any other comma is part of a value, such as grow=4@0,16@2M."""


def words(text: str) -> tuple[str, ...]:
    """Read words such as `reacher,ant`."""
    found = tuple(text.split(","))
    if not all(word.strip() for word in found):
        raise ConfigurationError(f"{text!r} is no list; write words with commas between them, such as reacher,ant")
    return found


def pairs(text: str) -> tuple[str, ...]:
    """Read pairs such as `width=128,crl.energy=dot`."""
    return tuple(BETWEEN_PAIRS.split(text))


def numbers(text: str) -> tuple[int, ...]:
    """Read whole numbers such as `4,16,64` or `0..7`."""
    return whole_numbers(text, "number")


def _spec(metavar: str, read: Callable[[str], tuple[Any, ...]]) -> PrimitiveConstructorSpec:
    """Return how a list is read from one word and shown as a default."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda given: read(given[0]),
        is_instance=lambda value: value is None or isinstance(value, tuple),
        str_from_instance=lambda value: ["None" if value is None else ",".join(map(str, value)) or "none"],
    )


Words = Annotated[tuple[str, ...], _spec("NAME,...", words)]
"""Names, such as `reacher,ant`."""

OptionalWords = Annotated[tuple[str, ...] | None, _spec("NAME,...", words)]
"""The same, or None."""

Pairs = Annotated[tuple[str, ...], _spec("NAME=VALUE,...", pairs)]
"""Settings or labels, such as `width=128,crl.energy=dot`."""

Numbers = Annotated[tuple[int, ...], _spec("N,...", numbers)]
"""Whole numbers, such as `4,16,64` or `0..7`."""

OptionalNumbers = Annotated[tuple[int, ...] | None, _spec("N,...", numbers)]
"""The same, or None."""

Seeds = Annotated[tuple[int, ...], _spec("SEED,...", parse_seeds)]
"""Seeds, such as `0..7` or `0,3,5`."""

OptionalSeeds = Annotated[tuple[int, ...] | None, _spec("SEED,...", parse_seeds)]
"""The same, or None."""
