"""When the networks of a run grow, and to which depth: `4@0,16@2M,64@10M` or `4@0,16@50K gradient_steps`."""

import dataclasses
import re
from itertools import pairwise

from kilolayer.errors import ConfigurationError
from kilolayer.runs.clock import Clocks, Count
from kilolayer.runs.timetable import Timetable

EXAMPLE = "4@0,16@2M,64@50K gradient_steps"

_DEPTH = re.compile(r"\s*([0-9](?:_?[0-9]){0,14})\s*", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Stage:
    """A depth, and the count of steps from which the networks have it."""

    depth: int
    begins: Count
    text: str = dataclasses.field(compare=False)
    """As it was written."""


@dataclasses.dataclass(frozen=True)
class GrowthSchedule:
    """Depths to grow through. The depth is a function of both clocks, which every checkpoint holds."""

    stages: tuple[Stage, ...]

    @classmethod
    def parse(cls, text: str) -> "GrowthSchedule":
        """Read a schedule such as `4@0,16@2M,64@50K gradient_steps`.

        Args:
            text: stages DEPTH@COUNT with commas between; see `Count.parse`.

        Raises:
            ConfigurationError: if the text is not a schedule. The first stage begins at 0, and depths and the counts
                of each clock rise from stage to stage.
        """
        stages = tuple(_stage(part, text) for part in text.split(","))
        if stages[0].begins.number:
            raise ConfigurationError(f"grow={text!r} must begin with a depth at step 0, as {stages[0].depth}@0")
        if len(stages) == 1:
            raise ConfigurationError(
                f"grow={text!r} has one stage and never grows: add a stage such as {4 * stages[0].depth or 4}@2M, or "
                f"use depth={stages[0].depth}"
            )
        for before, after in pairwise(stages):
            same_clock = before.begins.clock == after.begins.clock
            later = after.begins.number > (before.begins.number if same_clock else 0)
            if after.depth <= before.depth or not later:
                raise ConfigurationError(
                    f"grow={text!r}: depth and steps must both rise from stage to stage, and from {before.text} to "
                    f"{after.text} they do not"
                )
        return cls(stages)

    @property
    def final_depth(self) -> int:
        """The depth that the networks grow to."""
        return self.stages[-1].depth

    def depth_at(self, clocks: Clocks) -> int:
        """Return the depth of the networks at a point of the run."""
        return max(stage.depth for stage in self.stages if stage.begins.reached(clocks))

    def check(self, timetable: Timetable) -> None:
        """Validate the stages against a run. Networks grow between rounds, and every stage needs a round.

        Raises:
            ConfigurationError: naming the stage, and when it could begin.
        """
        begins = []
        for stage in self.stages:
            try:
                begins.append(timetable.rounds_until(stage.begins))
            except ConfigurationError as error:
                raise ConfigurationError(f"grow: {stage.text}: {error}") from None
        for (before, after), (i, j) in zip(pairwise(self.stages), pairwise(begins), strict=True):
            if i >= j:
                which = "begin in the same round" if i == j else "begin in the wrong order"
                raise ConfigurationError(
                    f"grow: {before.text} and {after.text} {which}; leave one of them out, or let {after.text} begin "
                    f"after {_at(timetable, i, after.begins)}"
                )
        if begins[-1] >= timetable.rounds:
            last = self.stages[-1]
            raise ConfigurationError(
                f"grow: {last.text} leaves nothing to train at that depth; it must begin by "
                f"{_at(timetable, timetable.rounds - 1, last.begins)}, where the last round begins"
            )


def _at(timetable: Timetable, rounds: int, count: Count) -> str:
    """Return the clock of a count after so many rounds, in words."""
    return f"{count.clock} {count.of(timetable.clocks(rounds))}"


def _stage(part: str, text: str) -> Stage:
    depth, at, count = part.partition("@")
    match = _DEPTH.fullmatch(depth)
    if match is None or not at:
        raise ConfigurationError(
            f"grow={text!r}: {part.strip()!r} is not a stage DEPTH@STEPS; write stages such as {EXAMPLE}"
        )
    try:
        return Stage(int(match[1]), Count.parse(count), part.strip())
    except ConfigurationError as error:
        raise ConfigurationError(f"grow={text!r}: {error}") from None
