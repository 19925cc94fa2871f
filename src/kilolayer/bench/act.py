"""Seconds per action on one CPU core by precision of the weights, with the time to read the weights as the floor."""

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

import jax
import numpy as np

from kilolayer.bench.process import run_apart
from kilolayer.bench.timing import seconds_of
from kilolayer.errors import ConfigurationError
from kilolayer.machine import cpu_cores
from kilolayer.nn import ResidualArchitecture, ResidualMLP
from kilolayer.policies import ActingPrecision, CompiledPolicy, check_acting_precision

DEPTHS = (64, 1024)
PRECISIONS: tuple[ActingPrecision, ...] = get_args(ActingPrecision)
OBSERVATION_SIZE, GOAL_SIZE, ACTION_SIZE = 29, 2, 8  # the ant's
WARM_UP = 3
ROUNDS = 5
ERRORS_ON = 256


@dataclasses.dataclass(frozen=True)
class ActSpeed:
    """One line of the table."""

    depth: int
    width: int
    batch_size: int
    precision: str
    cores: int
    """Cores that the process may use: one, where the platform can set this."""
    compile_seconds: float
    """Time to round the weights, compile, and run once."""
    step_seconds: float
    """Median of all calls, from numpy arrays to numpy arrays."""
    slowest: float
    """Seconds of the 99th percentile of the calls."""
    float32_ratio: float | None
    """Time of float32 divided by the time of this line in the same round; median over the rounds."""
    floor_seconds: float
    """Median time to read as many bytes as the weights have once, on the same cores in the same rounds."""
    weight_bytes: int
    """Bytes of parameters that a call reads."""
    largest_action_error: float
    """Largest difference from float32 of any number in an action, for this untrained network on 256 random normal
    observations and goals."""
    mean_action_error: float
    """Mean difference on the same inputs."""


def bench_act(
    depths: Sequence[int] = DEPTHS,
    *,
    width: int = 256,
    batch: int = 1,
    precisions: Sequence[ActingPrecision] = PRECISIONS,
    calls: int = 200,
    seconds: float | None = None,
    log: Callable[[str], object] = id,
) -> Iterator[ActSpeed]:
    """Time compiled policies with untrained actors of the ant's sizes, in a process bound to one core.

    The precisions of a depth take turns, round by round, so that noise affects all alike.

    Args:
        depths: of the actors.
        width: of the actors.
        batch: observations in a call.
        precisions: to compare.
        calls: timed calls of each precision, spread over the rounds.
        seconds: give up on a depth after so many.
        log: called with a line before each measurement.

    Returns:
        An iterator that measures as it is read: the lines of a depth come once that depth is measured.

    Raises:
        ConfigurationError: at the call, for an invalid depth, width, batch, precision or number of calls.
        KilolayerError: while measuring, if the process fails, for example without enough memory.
    """
    for depth in depths:
        ResidualArchitecture().num_blocks(depth)
    for precision in precisions:
        check_acting_precision(precision)
    for name, value in (("width", width), ("batch", batch), ("calls", calls)):
        if value < 1:
            raise ConfigurationError(f"{name}={value} must be at least 1")
    sizes = {"width": width, "batch": batch, "precisions": list(precisions), "calls": calls}
    return _measure_depths(depths, sizes, seconds, log)


def _measure_depths(
    depths: Sequence[int], sizes: Mapping[str, Any], seconds: float | None, log: Callable[[str], object]
) -> Iterator[ActSpeed]:
    for depth in depths:
        log(f"depth {depth}, {' and '.join(sizes['precisions'])}")
        arguments = {"depth": depth, **sizes}
        on_cpu = {"JAX_PLATFORMS": "cpu"}
        for line in run_apart(f"{__name__}:measure", arguments, environment=on_cpu, one_core=True, seconds=seconds):
            yield ActSpeed(**line)


def measure(
    depth: int, width: int, batch: int, precisions: Sequence[ActingPrecision], calls: int
) -> list[dict[str, Any]]:
    """Measure one depth in this process and return the fields of `ActSpeed` for each precision."""
    sizes = {"observation_size": OBSERVATION_SIZE, "goal_size": GOAL_SIZE, "action_size": ACTION_SIZE}
    in_size, out_size = OBSERVATION_SIZE + GOAL_SIZE, 2 * ACTION_SIZE
    draw = jax.jit(lambda key: ResidualMLP(in_size, out_size, depth=depth, width=width, key=key))
    actor = jax.block_until_ready(draw(jax.random.key(0)))
    policies = [CompiledPolicy(actor, **sizes, batch=batch, precision=precision) for precision in precisions]
    rng = np.random.default_rng(0)
    observations = rng.standard_normal((calls + WARM_UP, batch, OBSERVATION_SIZE), np.float32)
    goals = rng.standard_normal((calls + WARM_UP, batch, GOAL_SIZE), np.float32)
    buffers = [np.ones(policy.weight_bytes // 4, np.float32) for policy in policies]

    times: list[list[list[float]]] = [[] for _ in policies]
    reads: list[list[float]] = [[] for _ in policies]
    for part in np.array_split(np.arange(calls), min(ROUNDS, calls)):
        for policy, buffer, seconds, read in zip(policies, buffers, times, reads, strict=True):
            inputs = [(observations[i], goals[i]) for i in (*range(-WARM_UP, 0), *part)]
            seconds.append([seconds_of(policy, *pair) for pair in inputs][WARM_UP:])
            # The product of a vector with itself reads every number once, as fast as this core can.
            read.extend([seconds_of(np.dot, buffer, buffer) for _ in inputs][WARM_UP:])

    samples = np.random.default_rng(1).standard_normal((ERRORS_ON, in_size))
    base = precisions.index("float32") if "float32" in precisions else None
    lines = []
    for policy, seconds, read in zip(policies, times, reads, strict=True):
        error = policy.error(samples[:, :OBSERVATION_SIZE], samples[:, OBSERVATION_SIZE:])
        ratio = None
        if base is not None:
            pairs = zip(times[base], seconds, strict=True)
            ratio = statistics.median(statistics.median(one) / statistics.median(other) for one, other in pairs)
        flat = np.concatenate(seconds)
        speed = ActSpeed(
            depth=depth,
            width=width,
            batch_size=batch,
            precision=policy.precision,
            cores=cpu_cores(),
            compile_seconds=policy.compile_seconds,
            step_seconds=float(np.median(flat)),
            slowest=float(np.quantile(flat, 0.99)),
            float32_ratio=ratio,
            floor_seconds=statistics.median(read),
            weight_bytes=policy.weight_bytes,
            largest_action_error=error.largest,
            mean_action_error=error.mean,
        )
        lines.append(dataclasses.asdict(speed))
    return lines
