"""`kilolayer eval`: evaluate a run."""

import dataclasses
from collections.abc import Sequence

import jax

from kilolayer.cli.episodes import EpisodeOptions
from kilolayer.cli.options import parse
from kilolayer.errors import TrainingError
from kilolayer.files import json_text
from kilolayer.training import run_episodes, summarize
from kilolayer.training.evaluation import METRICS, remarks


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalOptions(EpisodeOptions):
    """Evaluate the policy of a run in whole episodes."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    options = parse(EvalOptions, arguments, command="eval")
    policy, environment = options.load()
    episodes = run_episodes(
        policy.agent,
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
        print(json_text(about | metrics))
        return 0
    print(f"{environment.name}, {options.episodes} episodes, checkpoint {policy.env_steps:,}, {options.mode}")
    for name in METRICS:
        print(f"  {name:15} {metrics[f'eval/{name}']:9.3f} ± {metrics[f'eval/{name}_stderr']:.3f}")
    for remark in remarks(metrics):
        print(remark)
    return 0
