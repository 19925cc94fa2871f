"""Checks of settings that agents share. Each raises an error that names the field, its value and what is valid."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from kilolayer.errors import ConfigurationError


def check_finite(config: Any) -> None:
    """Check that all numbers are finite."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigurationError(f"{field.name}={value} must be a finite number")


def check_positive(config: Any, *names: str) -> None:
    """Check that numbers are above 0."""
    for name in names:
        if not getattr(config, name) > 0.0:
            raise ConfigurationError(f"{name}={getattr(config, name)} must be above 0")


def check_not_negative(config: Any, *names: str) -> None:
    """Check that numbers are not negative."""
    for name in names:
        if not getattr(config, name) >= 0.0:
            raise ConfigurationError(f"{name}={getattr(config, name)} must not be negative")


def check_share(config: Any, *names: str) -> None:
    """Check that numbers are from 0 to 1."""
    for name in names:
        if not 0.0 <= getattr(config, name) <= 1.0:
            raise ConfigurationError(f"{name}={getattr(config, name)} must be from 0 to 1")


def check_discount(config: Any, *, one_is_valid: bool) -> None:
    """Check that the discount is above 0 and below 1, or at most 1 where `one_is_valid`."""
    discount = config.discount
    if not 0.0 < discount <= 1.0 or (discount == 1.0 and not one_is_valid):
        raise ConfigurationError(f"discount={discount} must be above 0 and {'at most' if one_is_valid else 'below'} 1")


def check_counts(config: Any, *names: str) -> None:
    """Check that counts are at least 1, or None."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ConfigurationError(f"{name}={value} must be at least 1")


def check_choice(config: Any, name: str, choices: Sequence[str]) -> None:
    """Check that a word is one of the choices."""
    if getattr(config, name) not in choices:
        raise ConfigurationError(f"{name}={getattr(config, name)!r} is unknown; choose one of {', '.join(choices)}")
