"""Several seeds side by side, by threads and by vmap, against the same seeds one after another.

    python benchmarks/seeds.py [--cases point-4x64,reacher-4x64] [--seeds 4] [--rounds 3] [--json FILE]

Each way runs in a process of its own with an empty compilation cache, which its seeds share as they do by default.
Two times are taken: all of a short training (starting, compiling, evaluating twice, saving once), and a training step
of all seeds (an unroll and its gradient steps) once everything is compiled. Figures are medians over rounds; a ratio
above one says how many times faster than one after another.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

import kilolayer
from kilolayer.process_setup import set_up_process
from kilolayer.runs import TrainConfig, default_config
from kilolayer.training import Setup
from kilolayer.training.population import Population, populate
from kilolayer.training.step import init_states

CASES: dict[str, dict[str, Any]] = {
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
"""By environment, depth and width; 128 environments, and 64 gradient steps in a training step where not said."""

MODES = ("alone", "threads", "vmap")
LEARNING_STEPS = 8
TIMED_STEPS = 5


def config_of(case: str) -> TrainConfig:
    """Return the settings of a short training."""
    settings = default_config(**CASES[case])
    steps = settings.prefill_env_steps + LEARNING_STEPS * settings.env_steps_per_unroll
    return default_config(**CASES[case], total_env_steps=steps, num_evals=1)


def train(mode: str, config: TrainConfig, seeds: Sequence[int]) -> float:
    """Train once, and return the seconds that it takes."""
    with tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        if mode == "alone":
            for seed in seeds:
                one = TrainConfig.from_dict(config.to_dict() | {"seed": seed})
                kilolayer.train(config=one, run_dir=f"{directory}/{seed}", progress=False)
        else:
            kilolayer.train_seeds(config=config, seeds=seeds, mode=mode, run_dir=directory, progress=False)  # type: ignore[arg-type]
        return time.perf_counter() - began


def time_step(mode: str, config: TrainConfig, seeds: Sequence[int]) -> float:
    """Return the seconds of a training step of all seeds."""
    setup = Setup.build(config)
    states = init_states(setup, seeds)
    populations: list[Population]
    if mode == "alone":
        populations = [populate("threads", setup, [state]) for state in states]
    else:
        populations = [populate(mode, setup, states)]  # type: ignore[arg-type]
    while populations[0].clocks.env_steps < config.prefill_env_steps:
        for population in populations:
            population.advance(learn=False)
    times = []
    for _ in range(2 + TIMED_STEPS):
        began = time.perf_counter()
        for population in populations:
            population.advance(learn=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times[2:])


def measure(mode: str, case: str, seeds: int) -> dict[str, float]:
    """Measure one way in this process."""
    set_up_process()
    config = config_of(case)
    return {
        "train_seconds": train(mode, config, range(seeds)),
        "step_seconds": time_step(mode, config, range(seeds)),
    }


def measure_apart(mode: str, case: str, seeds: int) -> dict[str, float]:
    """Measure one way in a process of its own."""
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, __file__, "--mode", mode, "--cases", case, "--seeds", str(seeds)],
            env=os.environ | {"KILOLAYER_CACHE_DIR": cache},
            capture_output=True,
            text=True,
            check=True,
        )
    return json.loads(done.stdout)


def main() -> None:
    """Measure all ways of all cases in turn, round by round, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--mode", choices=MODES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mode:
        print(json.dumps(measure(options.mode, options.cases, options.seeds)))
        return
    rows: list[dict[str, Any]] = []
    print(f"{options.seeds} seeds, {jax.devices()[0].device_kind}, medians of {options.rounds} rounds")
    print(f"{'case':14} {'mode':8} {'train s':>8} {'ratio':>6} {'step s':>8} {'ratio':>6}")
    for case in options.cases.split(","):
        found: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
        for _ in range(options.rounds):
            for mode in MODES:
                found[mode].append(measure_apart(mode, case, options.seeds))
        alone = found["alone"]
        for mode in MODES:
            row: dict[str, Any] = {"case": case, "mode": mode, "seeds": options.seeds, "rounds": found[mode]}
            for name in ("train_seconds", "step_seconds"):
                row[name] = statistics.median(each[name] for each in found[mode])
                pairs = zip(alone, found[mode], strict=True)
                row[f"{name}_ratio"] = statistics.median(one[name] / other[name] for one, other in pairs)
            rows.append(row)
            print(
                f"{case:14} {mode:8} {row['train_seconds']:8.1f} {row['train_seconds_ratio']:6.2f} "
                f"{row['step_seconds']:8.3f} {row['step_seconds_ratio']:6.2f}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
