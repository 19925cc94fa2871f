"""When a run's networks grow, and to what depth: `4@0,16@2M,64@10M`."""

import dataclasses
import re
from fractions import Fraction
from itertools import pairwise

from kilolayer.errors import ConfigurationError

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}

_NUMBER = r"[0-9](?:_?[0-9]){0,14}"
_STAGE = re.compile(rf"\s*({_NUMBER})\s*@\s*({_NUMBER}(?:\.[0-9]{{1,9}})?)([KMG]?)\s*", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Stage:
    """A depth, and the env step from which the networks have it."""

    depth: int
    env_steps: int
    text: str = dataclasses.field(compare=False)
    """As it was written."""


@dataclasses.dataclass(frozen=True)
class GrowthSchedule:
    """Depths to grow through. Depth is a function of env steps alone, so a checkpoint tells it by its name."""

    stages: tuple[Stage, ...]

    @classmethod
    def parse(cls, text: str) -> "GrowthSchedule":
        """Read a schedule such as `4@0,16@2M,64@10M`.

        Args:
            text: stages DEPTH@ENV_STEPS with commas between; K, M and G stand for thousands, millions and billions.

        Raises:
            ConfigurationError: if it is none: depths and env steps must rise from stage to stage, from env step 0.
        """
        stages = tuple(_stage(part, text) for part in text.split(","))
        if stages[0].env_steps:
            raise ConfigurationError(f"grow={text!r} must begin with a depth at env step 0, as {stages[0].depth}@0")
        if len(stages) == 1:
            raise ConfigurationError(
                f"grow={text!r} never grows: add a stage such as {4 * stages[0].depth or 4}@2M, or use "
                f"depth={stages[0].depth}"
            )
        for before, after in pairwise(stages):
            if after.depth <= before.depth or after.env_steps <= before.env_steps:
                raise ConfigurationError(
                    f"grow={text!r}: depth and env steps must both rise from stage to stage, and from {before.text} to "
                    f"{after.text} they do not"
                )
        return cls(stages)

    @property
    def final_depth(self) -> int:
        """The depth that the networks grow to."""
        return self.stages[-1].depth

    def depth_at(self, env_steps: int) -> int:
        """Return the depth after `env_steps` steps in all environments together."""
        return max(stage.depth for stage in self.stages if stage.env_steps <= env_steps)

    def check_steps(self, env_steps_per_unroll: int, num_unrolls: int) -> None:
        """Refuse a stage in which no training step would be taken: networks grow between training steps.

        Raises:
            ConfigurationError: naming the stage, and when it could begin.
        """
        # A stage begins after the first training step that reaches its env steps.
        begins = [-(-stage.env_steps // env_steps_per_unroll) for stage in self.stages]
        for (before, after), (i, j) in zip(pairwise(self.stages), pairwise(begins), strict=True):
            if i == j:
                raise ConfigurationError(
                    f"grow: {before.text} and {after.text} begin in the same training step; leave one out, or let the "
                    f"later one begin after env step {i * env_steps_per_unroll}"
                )
        if begins[-1] >= num_unrolls:
            raise ConfigurationError(
                f"grow: {self.stages[-1].text} leaves nothing to train at that depth; it must begin by env step "
                f"{(num_unrolls - 1) * env_steps_per_unroll}, where the last training step does"
            )


def _stage(part: str, text: str) -> Stage:
    match = _STAGE.fullmatch(part)
    if match is None:
        raise ConfigurationError(
            f"grow={text!r}: {part.strip()!r} is no stage DEPTH@ENV_STEPS; write stages such as 4@0,16@2M,64@10M"
        )
    depth, number, unit = match.groups()
    env_steps = Fraction(number.replace("_", "")) * UNITS[unit.upper()]
    if env_steps.denominator != 1:
        raise ConfigurationError(f"grow={text!r}: {part.strip()} is no whole number of env steps, as 2.5K would be")
    return Stage(int(depth), int(env_steps), part.strip())
