"""A round of training end to end: collecting and learning as the trainer does both, once compiled."""

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

from kilolayer.bench.process import device_name, peak_bytes, run_apart, tell
from kilolayer.bench.timing import seconds_of
from kilolayer.runs import default_config
from kilolayer.training import Setup
from kilolayer.training.population import populate
from kilolayer.training.step import init_states


@dataclasses.dataclass(frozen=True)
class RoundCost:
    """What a round costs on one engine."""

    task: str
    variant: str
    engine: str
    depth: int
    width: int
    batch_size: int
    num_envs: int
    overlap: bool
    """The host collects while the device learns."""
    unroll_length: int
    gradient_steps: int
    """Gradient steps in a round."""
    seconds: float
    """Time of a round, learning included; median over the rounds."""
    collect_seconds: float
    """Time of a round that only collects; median over the rounds."""
    env_steps_per_second: float
    """Learning included."""
    compile_seconds: float
    """Time of both first calls beyond that of later ones."""
    peak_bytes: int
    device: str


def bench_round(
    settings: dict[str, Any], *, rounds: int = 3, seconds: float | None = None, log: Callable[[str], object] = id
) -> RoundCost:
    """Measure in a process of its own.

    Args:
        settings: of the run, as `default_config` takes them.
        rounds: timed rounds.
        seconds: give up after so many.
        log: called with a line before each stage.

    Raises:
        KilolayerError: if the process fails, for example because the engine is not installed.
    """
    arguments = {"settings": settings, "rounds": rounds}
    return RoundCost(**run_apart(f"{__name__}:measure", arguments, seconds=seconds, log=log))


def measure(settings: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Measure in this process and return the fields of `RoundCost`."""
    # The buffer need not be full: a round takes as long with any content.
    config = default_config(**settings | {"min_replay": settings["unroll_length"]})
    setup = Setup.build(config)
    population = populate("threads", setup, init_states(setup, [config.seed]))

    def advance(learn: bool) -> float:
        return seconds_of(lambda: population.advance(learn=learn))

    tell("compiling collecting")
    first = advance(False)
    while population.clocks.env_steps < config.prefill_env_steps:
        advance(False)
    collecting = [advance(False) for _ in range(rounds)]
    tell("compiling learning")
    first_learning = advance(True)
    tell(f"{rounds} rounds")
    times = [advance(True) for _ in range(rounds)]
    population.close()
    median, collect_median = statistics.median(times), statistics.median(collecting)
    return {
        "task": config.env,
        "variant": config.variant,
        "engine": config.engine,
        "depth": config.depth,
        "width": config.width,
        "batch_size": config.batch_size,
        "num_envs": config.num_envs,
        "overlap": config.overlap,
        "unroll_length": config.unroll_length,
        "gradient_steps": config.gradient_steps_per_unroll,
        "seconds": median,
        "collect_seconds": collect_median,
        "env_steps_per_second": config.env_steps_per_unroll / median,
        "compile_seconds": max(first - collect_median, 0.0) + max(first_learning - median, 0.0),
        "peak_bytes": peak_bytes(),
        "device": device_name(),
    }
