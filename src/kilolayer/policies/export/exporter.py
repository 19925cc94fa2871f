"""Exporters: what writes a policy in a format that runs without kilolayer, and the registry of their formats.

A user's file registers another format:

    register_exporter(Exporter("my_format", "what runs it, in one line", write))
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from kilolayer.errors import UnknownNameError, nearest_names
from kilolayer.policies.compiled import ActingPrecision

Acting = Callable[[Any, Any], Float[jax.Array, "batch *action"]]
"""Takes observations `(batch, observation_size)` and desired goals `(batch, goal_size)`, returns actions or chunks."""


@dataclasses.dataclass(frozen=True)
class Exportable:
    """A policy as a function to be written."""

    function: Acting
    """Pure, with the weights inside. With `int8`, its blocks have 8 bit weights already; see `function_float32`."""
    function_float32: Acting
    """The same with the weights as they were learnt."""
    sizes: dict[str, int]
    """Numbers of each input, by its name, in the order of the arguments."""
    output: str
    """Name of the output."""
    precision: ActingPrecision
    """Numbers that hold the weights of the blocks."""


@dataclasses.dataclass(frozen=True)
class Written:
    """A policy that is written in a format."""

    run: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Runs what was written: takes observations and desired goals of any batch, and returns what the policy does."""
    about: dict[str, Any]
    """What the contract says about the format: plain data."""
    packages: tuple[str, ...] = ()
    """Packages that wrote it, whose versions the contract names."""


@dataclasses.dataclass(frozen=True)
class Exporter:
    """An entry of the registry of formats."""

    name: str
    """The value of the setting `format`."""
    summary: str
    """One line for lists."""
    write: Callable[[Exportable, Path], Written]
    """Writes into an empty directory. It raises ConfigurationError, in one line, for a policy without this form."""


_EXPORTERS: dict[str, Exporter] = {}


def register_exporter(exporter: Exporter) -> None:
    """Add a format under its name; one of the same name is replaced."""
    _EXPORTERS[exporter.name] = exporter


def exporter_of(name: str) -> Exporter:
    """Return the exporter of a format.

    Raises:
        ConfigurationError: if there is none; the line names the nearest.
    """
    if name not in _EXPORTERS:
        raise UnknownNameError(f"format={name!r} is unknown; {nearest_names(name, _EXPORTERS)}")
    return _EXPORTERS[name]


def exporter_names() -> list[str]:
    """Return the names of all formats."""
    return list(_EXPORTERS)
