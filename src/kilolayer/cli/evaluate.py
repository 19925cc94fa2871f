"""`kilolayer eval`: evaluate a run."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import tyro

from kilolayer.agents import ActionMode
from kilolayer.cli.options import parse
from kilolayer.envs import registry
from kilolayer.envs.engines import EngineName
from kilolayer.errors import ConfigurationError, TrainingError
from kilolayer.training import load, run_episodes, summarize
from kilolayer.training.evaluation import METRICS
from kilolayer.training.setup import Setup


@dataclasses.dataclass(frozen=True)
class EvalOptions:
    """Evaluate the policy of a run in whole episodes."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run directory."""
    episodes: int = 128
    """Episodes, each with a start and goal of its own."""
    env: str | None = None
    """Environment; None takes the run's evaluation environment."""
    engine: EngineName | None = None
    """How the world moves; None takes the run's engine."""
    mode: ActionMode = "deterministic"
    """How actions are chosen."""
    checkpoint: str = "latest"
    """Checkpoint: latest, best, or its env steps."""
    seed: int = 0
    """Seed of starts, goals and drawn actions."""
    json: bool = False
    """Print one JSON object with the metric names as keys."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    options = parse(EvalOptions, arguments, command="eval")
    if options.episodes < 1:
        raise ConfigurationError(f"episodes={options.episodes} must be at least 1")
    policy = load(options.run, checkpoint=options.checkpoint)
    config = policy.config
    if options.env is not None:
        config = dataclasses.replace(config, eval_env=registry.resolve(options.env))
    if options.engine is not None:
        config = dataclasses.replace(config, engine=options.engine)
    environment = Setup.build(config).eval_environment
    episodes = run_episodes(
        policy.setup.agent,
        policy.agent_state,
        environment,
        jax.random.key(options.seed),
        num_episodes=options.episodes,
        mode=options.mode,
    )
    if not bool(episodes.finite):
        raise TrainingError(f"an evaluation episode in {environment.name} is not finite")
    metrics = summarize(episodes)
    if options.json:
        about = {"env": environment.name, "episodes": options.episodes, "env_steps": policy.env_steps}
        print(json.dumps(about | metrics, indent=2))
        return 0
    print(f"{environment.name}, {options.episodes} episodes, checkpoint {policy.env_steps:,}, {options.mode}")
    for name in METRICS:
        print(f"  {name:15} {metrics[f'eval/{name}']:9.3f} ± {metrics[f'eval/{name}_stderr']:.3f}")
    return 0
