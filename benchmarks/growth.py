"""Growing against being shallow or deep throughout: trains each in `point_u_maze`, and looks at the moment of growth.

Settings are the environment's own, which suit two CPU cores. A run that was interrupted goes on when this is run again.

    python benchmarks/growth.py [--grow 4@0,16@800K] [--seed N] [--runs DIR] [--results DIR]
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import kilolayer
from kilolayer.runs import Checkpoints, RunDirectory
from kilolayer.runs.growth_schedule import GrowthSchedule
from kilolayer.training import Setup, TrainState, compile_steps, run_episodes, summarize
from kilolayer.training.step import grow_state, state_shape

TASK = "point_u_maze"
SETTINGS: dict[str, Any] = {"num_evals": 25, "checkpoints_to_keep": 30}
METRICS = ("env_steps", "train/depth", "eval/success_any", "eval/time_at_goal", "perf/seconds")


def train(path: Path, seed: int, **settings: Any) -> dict[str, Any]:
    """Train once, or go on; returns the curve and what the run took."""
    if (path / "config.json").exists():
        result = kilolayer.train(resume=path)
    else:
        result = kilolayer.train(TASK, seed=seed, run_dir=path, **SETTINGS, **settings)
    if result.stopped_by is not None:
        raise SystemExit(f"stopped at {result.env_steps:,} env steps; run this again to go on")
    rows = result.run.metrics()
    return {
        "depth": result.run.config().depth,
        "grow": result.run.config().grow,
        "seconds": round(rows[-1]["perf/seconds"], 1),
        "system": json.loads(result.run.system_file.read_text()),
        "curve": [{name: row[name] for name in METRICS if name in row} for row in rows],
    }


def restore(run: RunDirectory, step: int) -> tuple[Setup, TrainState]:
    """Read a checkpoint of a run."""
    checkpoints = Checkpoints(run.checkpoints)
    try:
        setup = Setup.build(run.config()).at(checkpoints.clocks(step))
        return setup, checkpoints.restore(state_shape(setup), step)
    finally:
        checkpoints.close()


def moment_of_growth(path: Path) -> dict[str, Any]:
    """Take the steps before growth once more, grow, and compare on all that the replay buffer holds."""
    run = RunDirectory.open(path)
    config = run.config()
    begins = GrowthSchedule.parse(config.grow or "").stages[1].begins.number
    before = max(row["env_steps"] for row in run.metrics() if row["env_steps"] < begins)
    setup, state = restore(run, before)
    steps = compile_steps(setup)
    while setup.at(state.clocks) is setup:
        state, _ = steps.collect(state)
        state, _ = steps.learn(state)
    deep = setup.at(state.clocks)
    grown = grow_state(deep, state, config.seed)

    observation = state.buffer.observation.reshape(-1, state.buffer.observation.shape[-1])
    # Goals are places that were reached, each beside the observation of another time.
    goal = state.buffer.achieved_goal[::-1].reshape(len(observation), -1)
    key = jax.random.key(config.seed)
    sides = []
    for its_setup, agent in ((setup, state.agent), (deep, grown.agent)):
        action = jax.jit(its_setup.agent.act)(agent, observation, goal, key)
        value = jax.jit(its_setup.agent.value)(agent, observation, goal)
        episodes = run_episodes(its_setup.agent, agent, its_setup.eval_environment, key, num_episodes=128)
        sides.append((action, value, summarize(episodes)["eval/success_any"]))
    (action, value, success), (grown_action, grown_value, grown_success) = sides
    return {
        "env_steps": state.env_steps,
        "depths": [setup.depth, deep.depth],
        "observations": len(observation),
        "largest_change_of_actions": float(jnp.abs(grown_action - action).max()),
        "largest_change_of_values": float(jnp.abs(grown_value - value).max()),
        "values_range_over": [float(value.min()), float(value.max())],
        "success_any": [success, grown_success],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grow", default="4@0,16@800K")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/growth"))
    parser.add_argument("--results", type=Path, default=Path("results/growth"))
    arguments = parser.parse_args()
    first, *_, last = GrowthSchedule.parse(arguments.grow).stages
    sides: dict[str, dict[str, Any]] = {
        "growing": {"grow": arguments.grow},
        "shallow": {"depth": first.depth},
        "deep": {"depth": last.depth},
    }
    found: dict[str, Any] = {"task": TASK, "seed": arguments.seed}
    for name, settings in sides.items():
        path = arguments.runs / f"{name}-{next(iter(settings.values()))}-seed{arguments.seed}"
        found[name] = train(path, arguments.seed, **settings)
        if name == "growing":
            found["moment"] = moment_of_growth(path)
            print(json.dumps(found["moment"]))
        curve = " ".join(f"{row['eval/success_any']:.2f}" for row in found[name]["curve"])
        print(f"{name}: {found[name]['seconds']:.0f} s, success_any {curve}")
    ratio = found["growing"]["seconds"] / found["deep"]["seconds"]
    print(f"growing takes {ratio:.2f} of the time of depth {last.depth} throughout")
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / f"{TASK}-seed{arguments.seed}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
