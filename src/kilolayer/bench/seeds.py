"""Several seeds trained side by side, by threads and by vmap, compared with one seed after another.

Each mode runs in a process of its own with an empty compilation cache, which its seeds share. Two times are measured:
a short training in full (start, compilation, two evaluations, one checkpoint), and a compiled training step of all
seeds (an unroll and its gradient steps).
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kilolayer.bench.process import device_name, run_apart
from kilolayer.bench.timing import seconds_of
from kilolayer.compilation_cache import VARIABLE, enable_compilation_cache
from kilolayer.errors import ConfigurationError, nearest_names
from kilolayer.runs import TrainConfig, default_config
from kilolayer.runs.seed_group import check_seeds
from kilolayer.settings import check_count
from kilolayer.training import Setup, train, train_seeds
from kilolayer.training.population import Population, populate
from kilolayer.training.step import init_states

CASES: dict[str, Mapping[str, Any]] = {
    "point-4x64": {"env": "point_u_maze", "depth": 4, "width": 64, "batch_size": 64},
    "point-4x256": {
        "env": "point_u_maze",
        "depth": 4,
        "width": 256,
        "batch_size": 256,
        "gradient_steps_per_unroll": 16,
    },
    "point-16x256": {
        "env": "point_u_maze",
        "depth": 16,
        "width": 256,
        "batch_size": 256,
        "gradient_steps_per_unroll": 4,
    },
    "reacher-4x64": {"env": "reacher", "depth": 4, "width": 64, "batch_size": 64},
}
"""Settings by environment, depth and width. Other settings, such as 128 environments and 64 gradient steps in a
training step, are those of the environment."""

ALONE = "alone"
MODES = (ALONE, "threads", "vmap")
LEARNING_STEPS = 8
TIMED_STEPS = 5
WARM_UP = 2


@dataclasses.dataclass(frozen=True)
class SeedsCost:
    """One line of the table."""

    case: str
    mode: str
    """`alone`: one seed after another. `threads`, `vmap`: side by side."""
    seeds: int
    train_seconds: float
    """Time of the short training of all seeds; median over the rounds."""
    train_seconds_ratio: float
    """Time of `alone` divided by the time of this mode in the same round; median over the rounds."""
    step_seconds: float
    """Time of a training step of all seeds; median over the rounds."""
    step_seconds_ratio: float
    """As `train_seconds_ratio`, of the training step."""
    rounds: Sequence[Mapping[str, float]]
    """Both times in each round."""
    device: str


def bench_seeds(
    cases: Sequence[str] = tuple(CASES),
    *,
    seeds: Sequence[int] = (0, 1, 2, 3),
    rounds: int = 3,
    log: Callable[[str], object] = id,
) -> Iterator[SeedsCost]:
    """Time each mode of each case. The modes take turns, round by round, so that noise affects all alike.

    Args:
        cases: names in `CASES`.
        seeds: to train.
        rounds: to take the median of.
        log: called with a line before each measurement.

    Returns:
        An iterator that measures as it is read: the lines of a case come once that case is measured, or after Ctrl-C,
        which goes on behind the lines of the rounds so far.

    Raises:
        ConfigurationError: at the call, for an unknown case, seeds that are not valid, or fewer than one round.
        KilolayerError: while measuring, if a process fails.
    """
    for case in cases:
        if case not in CASES:
            raise ConfigurationError(f"case={case!r} is unknown; {nearest_names(case, CASES)}")
    check_count("rounds", rounds)
    return _measure_cases(cases, check_seeds(seeds), rounds, log)


def _measure_cases(
    cases: Sequence[str], seeds: Sequence[int], rounds: int, log: Callable[[str], object]
) -> Iterator[SeedsCost]:
    for case in cases:
        found: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
        interrupted: KeyboardInterrupt | None = None
        try:
            for number in range(rounds):
                for mode in MODES:
                    log(f"{case}: {mode}, round {number + 1} of {rounds}")
                    found[mode].append(_measure_apart(case, mode, seeds))
        except KeyboardInterrupt as error:  # the rounds so far are not lost
            whole = len(found[MODES[-1]])
            if not whole:
                raise
            interrupted, found = error, {mode: each[:whole] for mode, each in found.items()}
        for mode in MODES:
            yield SeedsCost(
                case=case,
                mode=mode,
                seeds=len(seeds),
                train_seconds=_median(found[mode], "train_seconds"),
                train_seconds_ratio=_ratio(found, mode, "train_seconds"),
                step_seconds=_median(found[mode], "step_seconds"),
                step_seconds_ratio=_ratio(found, mode, "step_seconds"),
                rounds=found[mode],
                device=device_name(),
            )
        if interrupted is not None:
            raise interrupted


def _median(rounds: Sequence[Mapping[str, float]], name: str) -> float:
    return statistics.median(each[name] for each in rounds)


def _ratio(found: Mapping[str, Sequence[Mapping[str, float]]], mode: str, name: str) -> float:
    return statistics.median(one[name] / other[name] for one, other in zip(found[ALONE], found[mode], strict=True))


def _measure_apart(case: str, mode: str, seeds: Sequence[int]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as cache:
        return run_apart(
            f"{__name__}:measure",
            {"case": case, "mode": mode, "seeds": list(seeds)},
            environment={"JAX_ENABLE_COMPILATION_CACHE": "true", VARIABLE: cache},
        )


def measure(case: str, mode: str, seeds: Sequence[int]) -> dict[str, float]:
    """Measure one mode of one case in this process and return both times."""
    enable_compilation_cache()
    config = short_config(CASES[case])
    return {
        "train_seconds": time_training(mode, config, seeds),
        "step_seconds": time_step(mode, config, seeds),
    }


def short_config(settings: Mapping[str, Any]) -> TrainConfig:
    """Return the configuration of a training with few training steps and one evaluation after them."""
    full = default_config(**settings)
    steps = full.prefill_env_steps + LEARNING_STEPS * full.env_steps_per_unroll
    return default_config(**settings, total_env_steps=steps, num_evals=1)


def time_training(mode: str, config: TrainConfig, seeds: Sequence[int]) -> float:
    """Train once with all seeds and return the seconds that it takes."""
    with tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        if mode == ALONE:
            for seed in seeds:
                one = dataclasses.replace(config, seed=seed)
                train(config=one, run_dir=f"{directory}/{seed}", progress=False)
        else:
            train_seeds(config=config, seeds=seeds, mode=mode, run_dir=directory, progress=False)  # type: ignore[arg-type]
        return time.perf_counter() - began


def time_step(mode: str, config: TrainConfig, seeds: Sequence[int]) -> float:
    """Return the seconds of a compiled training step of all seeds, the median of several."""
    setup = Setup.build(config, seeds=len(seeds))
    states = init_states(setup, seeds)
    populations: list[Population]
    if mode == ALONE:
        populations = [populate("threads", setup, [state]) for state in states]
    else:
        populations = [populate(mode, setup, states)]  # type: ignore[arg-type]

    def advance(learn: bool) -> None:
        for population in populations:
            population.advance(learn=learn)

    while populations[0].clocks.env_steps < config.prefill_env_steps:
        advance(False)
    times = [seconds_of(advance, True) for _ in range(WARM_UP + TIMED_STEPS)]
    for population in populations:
        population.close()
    return statistics.median(times[WARM_UP:])
