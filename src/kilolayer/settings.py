"""Blocks of settings, built from plain data such as JSON."""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic

from kilolayer.errors import ConfigurationError

Settings = TypeVar("Settings")

MOST_SEED = 2**32
"""Seeds are below this."""

MOST_STEPS = 2**31 - 1
"""What counters can hold."""

LONGEST_RANGE = 1024
"""Numbers of a range such as `0..7`: a mistyped one does not become a million."""


def settings_from(cls: type[Settings], values: Any, name: str) -> Settings:
    """Build a block of settings from plain data; settings that are missing take their defaults.

    Args:
        cls: a dataclass.
        values: settings by name, or an instance of `cls`, which is returned as it is.
        name: of the block, for errors.

    Raises:
        ConfigurationError: for an unknown setting, a value of the wrong type, or one that is not valid.
    """
    if isinstance(values, cls):
        return values
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{name}={values!r} must be settings of {cls.__name__} by name")
    fields = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for field in values:
        if field not in fields:
            raise ConfigurationError(f"setting {f'{name}.{field}'!r} is unknown; there are {', '.join(fields)}")
    return validate(cls, values, f"{name}.")


def check_count(name: str, value: int, *, least: int = 1, most: int = MOST_STEPS) -> None:
    """Check that a number is in a range.

    Raises:
        ConfigurationError: naming it, and the limit that it passes.
    """
    if value < least:
        raise ConfigurationError(f"{name}={value} must be at least {least}")
    if value > most:
        raise ConfigurationError(f"{name}={value} must be at most {most}")


def whole_numbers(text: str, one: str = "number") -> tuple[int, ...]:
    """Read whole numbers such as `0,3,5`, `0..7` (the last included), or both mixed.

    Args:
        text: the numbers.
        one: what each of them is, for errors.

    Raises:
        ConfigurationError: if the text is not such a list.
    """
    found: list[int] = []
    about = f"{one}s={text!r}"
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,18})\s*(?:\.\.\s*([0-9]{1,18})\s*)?", part)
        if match is None:
            raise ConfigurationError(f"{about}: {part.strip()!r} is not a {one}; write such as 0..7 or 0,3,5")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ConfigurationError(f"{about}: {part.strip()} runs backwards; write {last}..{first}")
        if last - first >= LONGEST_RANGE:
            raise ConfigurationError(f"{about}: {last - first + 1} {one}s are too many; at most {LONGEST_RANGE}")
        found.extend(range(first, last + 1))
    return tuple(found)


def check_seed(seed: int) -> None:
    """Check a seed: larger ones would repeat smaller ones, as a key of JAX takes 32 bits.

    Raises:
        ConfigurationError: if it is negative or too large.
    """
    check_count("seed", seed, least=0, most=MOST_SEED - 1)


def validate(cls: type[Settings], values: Mapping[str, Any], prefix: str = "") -> Settings:
    """Check the types of values, and build a dataclass of them.

    Whole numbers may be written as `1e6`. Text is no number, true and false are none either, and numbers are finite.

    Raises:
        ConfigurationError: for a value of the wrong type, or one that is not valid; the line begins with `prefix` and
            the name of the setting.
    """
    try:
        built = _reader(cls).validate_python(dict(values))  # type: ignore[arg-type]
    except pydantic.ValidationError as error:
        raise ConfigurationError(first_fault(error, prefix)) from None
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigurationError(f"{prefix}{name}={value} must be finite")
        taken = getattr(built, name)
        for kind, article in ((bool, "true or false"), (str, "text")):
            if isinstance(value, kind) != isinstance(taken, kind):
                should = f"must be {article}" if isinstance(taken, kind) else f"must not be {article}"
                raise ConfigurationError(f"{prefix}{name}={_short(value)} {should}")
    return built


def first_fault(error: pydantic.ValidationError, prefix: str = "") -> str:
    """Return the first of pydantic's errors as one line."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ConfigurationError):
        return f"{prefix}{place}: {cause}" if place else str(cause)
    if first["type"] == "missing":
        return f"{prefix}{place} is missing"
    if first["type"] == "unexpected_keyword_argument":
        return f"{prefix}{place} is unknown"
    return f"{prefix}{place}={_short(first['input'])}: {first['msg']}"


@functools.lru_cache(maxsize=64)
def _reader(cls: type[Settings]) -> "pydantic.TypeAdapter[Settings]":
    """Return what reads a class, which takes far longer to make than to use."""
    return pydantic.TypeAdapter(cls)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
