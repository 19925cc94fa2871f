"""The timetable of a run: both clocks after every round, known before the run begins.

A round collects an unroll of every environment and then takes gradient steps; the first rounds only collect. A run that
collects nothing takes gradient steps in every round.
"""

import dataclasses

from kilolayer.errors import ConfigurationError
from kilolayer.runs.clock import Clocks, Count


@dataclasses.dataclass(frozen=True)
class Timetable:
    """When a run is where. The run ends after the first round that reaches one of its totals."""

    env_steps_per_round: int
    """Steps of all environments together; 0 if the run collects nothing."""
    gradient_steps_per_round: int
    prefill_rounds: int
    """Rounds that only collect."""
    total_env_steps: int | None
    """None if the run collects nothing."""
    total_gradient_steps: int | None
    """None if only env steps end the run."""

    @property
    def rounds(self) -> int:
        """Rounds of the whole run."""
        totals = []
        if self.total_env_steps is not None:
            totals.append(self.rounds_until(Count(self.total_env_steps, "env_steps")))
        if self.total_gradient_steps is not None:
            totals.append(self.rounds_until(Count(self.total_gradient_steps, "gradient_steps")))
        return min(totals)

    @property
    def end(self) -> Clocks:
        """Both clocks at the end of the run."""
        return self.clocks(self.rounds)

    def clocks(self, rounds: int) -> Clocks:
        """Return both clocks after so many rounds."""
        return Clocks(
            rounds * self.env_steps_per_round,
            max(rounds - self.prefill_rounds, 0) * self.gradient_steps_per_round,
        )

    def rounds_at(self, clocks: Clocks) -> int:
        """Return how many rounds a run has taken."""
        if self.env_steps_per_round:
            return clocks.env_steps // self.env_steps_per_round
        return clocks.gradient_steps // self.gradient_steps_per_round

    def rounds_until(self, count: Count) -> int:
        """Return the fewest rounds that reach a count.

        Raises:
            ConfigurationError: if the count is in env steps and the run collects nothing.
        """
        if count.number == 0:
            return 0
        if count.clock == "gradient_steps":
            return self.prefill_rounds - (-count.number // self.gradient_steps_per_round)
        if not self.env_steps_per_round:
            raise ConfigurationError(
                f"{count} is in env steps, but total_env_steps=0 collects nothing; count gradient_steps"
            )
        return -(-count.number // self.env_steps_per_round)

    def passes_multiple(self, every: Count, rounds: int) -> bool:
        """Return whether the last of so many rounds reaches a multiple of `every`."""
        before, after = self.clocks(rounds - 1), self.clocks(rounds)
        return every.of(after) // every.number > every.of(before) // every.number

    def check_every(self, every: Count) -> None:
        """Validate an interval.

        Raises:
            ConfigurationError: if it is 0, in a clock that the run does not have, or longer than the run.
        """
        if every.number == 0:
            raise ConfigurationError("an interval must be at least 1 step")
        if self.rounds_until(every) > self.rounds:
            raise ConfigurationError(f"{every} are never reached; the run ends at {self.end_in(every)}")

    def end_in(self, count: Count) -> str:
        """Return where the run ends on the clock of a count, in words."""
        return str(dataclasses.replace(count, number=count.of(self.end)))
