"""Chunks of actions: several actions that an agent chooses at once, and how many of them are executed open loop.

Source: "Three Steps at a Time" (action-chunked CRL, 2026), which executes whole chunks in training and in evaluation.
"""

import dataclasses
from typing import Literal, get_args

from kilolayer.agents.core.checks import check_choice, check_counts
from kilolayer.agents.core.registry import Problem
from kilolayer.errors import ConfigurationError

Execute = Literal["chunk", "first"]


@dataclasses.dataclass(frozen=True)
class ChunkConfig:
    """Settings of agents that choose chunks of actions."""

    action_chunk: int = 1
    """Actions that actor and critic take at once, at most the episode's length (action-chunked CRL, 2026)."""
    execute: Execute = "chunk"
    """What is executed of a chunk: all its actions one after another, before the next is chosen (chunk); or the first
    alone, and a new chunk is chosen in every step (first)."""

    @property
    def executed_actions(self) -> int:
        """Actions of a chunk that are executed before the next is chosen."""
        return self.action_chunk if self.execute == "chunk" else 1

    def check_chunk(self) -> None:
        """Validate the settings by themselves.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        check_counts(self, "action_chunk")
        check_choice(self, "execute", get_args(Execute))
        if self.execute == "first" and self.action_chunk == 1:
            raise ConfigurationError("execute='first' has no effect with action_chunk=1; leave it out, or take a chunk")

    def check_chunk_fits(self, agent: str, problem: Problem) -> None:
        """Validate the settings against the episodes of a problem.

        Raises:
            ConfigurationError: if a chunk is longer than an episode.
        """
        if self.action_chunk > problem.episode_length:
            raise ConfigurationError(
                f"{agent}.action_chunk={self.action_chunk} is longer than an episode of env {problem.name!r}; it must "
                f"be at most episode_length={problem.episode_length}"
            )
