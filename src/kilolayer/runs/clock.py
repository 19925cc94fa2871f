"""The two clocks of a run: env steps count collecting, gradient steps count learning.

A count names its clock: `2M` and `2M env_steps` are env steps, `50K gradient_steps` are gradient steps.
"""

import dataclasses
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal, cast, get_args

from kilolayer.errors import ConfigurationError

ClockName = Literal["env_steps", "gradient_steps"]

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}

EXAMPLES = "2M, 2M env_steps or 50K gradient_steps"

_COUNT = re.compile(
    r"\s*([0-9](?:_?[0-9]){0,14}(?:\.[0-9]{1,9})?)([KMG]?)(?:\s+([a-z_]{1,40}))?\s*", re.IGNORECASE | re.ASCII
)


@dataclasses.dataclass(frozen=True)
class Clocks:
    """How far a run is, by both clocks.

    Attributes:
        env_steps: steps taken in all environments together.
        gradient_steps: gradient steps taken.
    """

    env_steps: int = 0
    gradient_steps: int = 0

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "Clocks":
        """Return the clocks of a row of metrics."""
        return cls(row["env_steps"], row.get("gradient_steps", 0))

    @property
    def step(self) -> int:
        """The number that names a checkpoint: env steps, or gradient steps in a run that collects nothing."""
        return self.env_steps or self.gradient_steps

    def __str__(self) -> str:
        """Return `step` with its unit."""
        return f"{self.gradient_steps:,} gradient steps" if self._only_learns else f"{self.env_steps:,} env steps"

    @property
    def moment(self) -> str:
        """This moment in words, for an error."""
        return f"gradient step {self.gradient_steps:,}" if self._only_learns else f"env step {self.env_steps:,}"

    @property
    def _only_learns(self) -> bool:
        return self.env_steps == 0 and self.gradient_steps > 0


@dataclasses.dataclass(frozen=True)
class Count:
    """A number of steps of one clock."""

    number: int
    clock: ClockName

    @classmethod
    def parse(cls, text: str) -> "Count":
        """Read a count such as `2M`, `2M env_steps` or `50K gradient_steps`.

        Args:
            text: a number, with K, M or G for thousands, millions or billions, and the clock; the default clock is
                env_steps.

        Raises:
            ConfigurationError: if the text is not a whole number of steps of a clock.
        """
        match = _COUNT.fullmatch(text)
        if match is None:
            raise ConfigurationError(f"{text.strip()!r} is not a count of steps; write {EXAMPLES}")
        number, unit, clock = match.groups()
        clock = clock or "env_steps"
        if clock not in get_args(ClockName):
            raise ConfigurationError(
                f"{text.strip()!r} names the unknown clock {clock!r}; choose {' or '.join(get_args(ClockName))}"
            )
        steps = Fraction(number.replace("_", "")) * UNITS[unit.upper()]
        if steps.denominator != 1:
            raise ConfigurationError(f"{text.strip()!r} is not a whole number of steps, as 2.5K would be")
        return cls(int(steps), cast(ClockName, clock))

    def reached(self, clocks: Clocks) -> bool:
        """Return whether a run has taken this many steps."""
        return self.of(clocks) >= self.number

    def of(self, clocks: Clocks) -> int:
        """Return the steps of this count's clock."""
        return clocks.env_steps if self.clock == "env_steps" else clocks.gradient_steps

    def __str__(self) -> str:
        """Return the count in words."""
        return f"{self.number:,} {self.clock}"
