"""NAME=VALUE pairs of the command line as plain data."""

import json
from collections.abc import Sequence
from typing import Any

from kilolayer.errors import ConfigurationError


def values(pairs: Sequence[str], *, flag: str) -> dict[str, Any]:
    """Read pairs such as `width=128`, `crl.energy=dot`, `diagnostics=true`: a value is JSON, or else text.

    Args:
        pairs: as they were typed.
        flag: what they followed, for the error.

    Raises:
        ConfigurationError: for a pair without a name or `=`, a name that comes twice, a blank at an end, or JSON that
            is nested too deep.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise ConfigurationError(f"{flag}={pair!r} must be NAME=VALUE, such as width=128")
        if pair != pair.strip():
            raise ConfigurationError(f"{flag}={pair!r} has a blank at an end; leave it out")
        if name in found:
            raise ConfigurationError(f"{flag}: {name} comes twice")
        try:
            found[name] = json.loads(text.replace("_", "") if text.replace("_", "").isdigit() else text)
        except ValueError:
            found[name] = text
        except RecursionError:
            raise ConfigurationError(f"{flag}: the value of {name} is nested too deep") from None
    return found
