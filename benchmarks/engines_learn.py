"""The whole loop on each engine: trains `reacher` with MuJoCo, MJX and Brax's spring pipeline, and keeps the curves.

Settings are those that suit two CPU cores; spring moves the paper's variant of the task, the others the default one.

    python benchmarks/engines_learn.py [--seed N] [--runs DIR] [--results DIR]
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

import kilolayer
from kilolayer.envs import spec
from kilolayer.runs import preset

SIDES = (("mujoco", "default"), ("mjx", "default"), ("spring", "paper"))
TASK = "reacher"


def train(engine: str, variant: str, seed: int, runs: Path) -> dict[str, Any]:
    """Train once, and return what `results/` keeps of a run."""
    began = time.monotonic()
    settings = {"episode_length": spec(TASK).episode_length, **preset(TASK)}
    run_dir = runs / f"{TASK}-{engine}-{seed}"
    result = kilolayer.train(TASK, engine=engine, variant=variant, seed=seed, run_dir=run_dir, **settings)
    config = result.run.config()
    metrics = ("env_steps", "eval/success_any", "eval/success_final", "eval/time_at_goal", "eval/episode_length")
    return {
        "task": config.env,
        "engine": engine,
        "variant": variant,
        "depth": config.depth,
        "width": config.width,
        "seed": seed,
        "batch_size": config.batch_size,
        "env_steps": result.env_steps,
        "seconds": round(time.monotonic() - began, 1),
        "system": json.loads((result.run.path / "system.json").read_text()),
        "curve": [{name: row[name] for name in metrics if name in row} for row in result.run.metrics()],
    }


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Draw the share of episodes that reach their goal, by env steps."""
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for one in results:
        axes.plot(
            [row["env_steps"] for row in one["curve"]],
            [row["eval/success_any"] for row in one["curve"]],
            marker="o",
            markersize=3,
            label=f"{one['engine']} ({one['variant']}), {one['seconds']:.0f} s",
        )
    axes.set(
        xlabel="env steps", ylabel="success_any", ylim=(0, 1.05), title=f"{TASK}, depth 4, seed {results[0]['seed']}"
    )
    axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/engines"))
    parser.add_argument("--results", type=Path, default=Path("results/engines"))
    arguments = parser.parse_args()
    arguments.results.mkdir(parents=True, exist_ok=True)
    results = [train(engine, variant, arguments.seed, arguments.runs) for engine, variant in SIDES]
    for one in results:
        name = f"{TASK}-{one['engine']}-seed{arguments.seed}.json"
        (arguments.results / name).write_text(json.dumps(one, indent=1) + "\n")
    draw(results, arguments.results / f"{TASK}-seed{arguments.seed}.png")


if __name__ == "__main__":
    main()
