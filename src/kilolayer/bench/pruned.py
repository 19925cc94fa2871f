"""Seconds per action on one CPU core of a policy with some of the blocks of its actor."""

import os
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kilolayer.bench.process import run_apart, tell
from kilolayer.bench.timing import seconds_of
from kilolayer.policies import CompiledPolicy
from kilolayer.training.policies import load_policy
from kilolayer.training.pruning import actor_of

ROUNDS = 5
WARM_UP = 3


def bench_pruned(
    run: str | os.PathLike,
    kept: Sequence[Sequence[int]],
    *,
    checkpoint: int | None = None,
    calls: int = 200,
    log: Callable[[str], object] = id,
) -> list[float]:
    """Time compiled policies in a process bound to one core.

    They take turns, round by round, so that noise affects all alike.

    Args:
        run: the run directory.
        kept: for each policy, the numbers of the blocks of the actor that stay.
        checkpoint: its step; None takes the latest.
        calls: timed calls of each policy, spread over the rounds.
        log: called with a line before each stage.

    Returns:
        For each policy the median of its calls, in seconds.

    Raises:
        KilolayerError: if the process fails.
    """
    arguments = {
        "run": os.fspath(run),
        "kept": [[int(number) for number in each] for each in kept],
        "checkpoint": checkpoint,
        "calls": calls,
    }
    return run_apart(f"{__name__}:measure", arguments, environment={"JAX_PLATFORMS": "cpu"}, one_core=True, log=log)


def measure(run: str, kept: list[list[int]], checkpoint: int | None, calls: int) -> list[float]:
    """Measure in this process; see `bench_pruned`."""
    policy = load_policy(run, checkpoint=checkpoint)
    actor = actor_of(policy)
    sizes: dict[str, Any] = {
        "observation_size": policy.observation_size,
        "goal_size": policy.goal_size,
        "action_size": policy.action_size,
        "action_chunk": policy.agent.executed_actions,
    }
    compiled = []
    for number, blocks in enumerate(kept):
        tell(f"compiling {number + 1} of {len(kept)}: {len(blocks)} blocks")
        compiled.append(CompiledPolicy(actor.keep_blocks(blocks), **sizes))
    rng = np.random.default_rng(0)
    times: list[list[float]] = [[] for _ in compiled]
    for _ in range(min(ROUNDS, calls)):
        for policy_of_blocks, own in zip(compiled, times, strict=True):
            for call in range(-WARM_UP, -(-calls // ROUNDS)):
                pair = (rng.standard_normal(policy.observation_size), rng.standard_normal(policy.goal_size))
                policy_of_blocks.reset()  # choose anew in every call, also with chunks
                seconds = seconds_of(policy_of_blocks, *pair)
                own += [seconds] if call >= 0 else []
    return [statistics.median(own) for own in times]
