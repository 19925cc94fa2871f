"""Blocks of settings, built from plain data such as JSON."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic

from kilolayer.errors import ConfigurationError

Settings = TypeVar("Settings")


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


def validate(cls: type[Settings], values: Mapping[str, Any], prefix: str = "") -> Settings:
    """Check the types of values, and build a dataclass of them.

    Raises:
        ConfigurationError: for a value of the wrong type, or one that is not valid; the line begins with `prefix` and
            the name of the setting.
    """
    try:
        return pydantic.TypeAdapter(cls).validate_python(dict(values))
    except pydantic.ValidationError as error:
        raise ConfigurationError(first_fault(error, prefix)) from None


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


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
