"""`kilolayer eval`: evaluate a run."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import jax

from kilolayer.cli.episodes import EpisodeOptions
from kilolayer.cli.options import parse
from kilolayer.envs.nominal import nominal
from kilolayer.errors import TrainingError
from kilolayer.files import json_text
from kilolayer.training import run_episodes, summarize
from kilolayer.training.evaluation import METRICS, remarks


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalOptions(EpisodeOptions):
    """Evaluate the policy of a run in whole episodes."""

    randomize: Literal["on", "off"] | None = None
    """Whether physics, sensors and pushes are drawn as the task has it (on), or the robot is as its model says (off).
    None: as in training, which is on if the task draws any."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    options = parse(EvalOptions, arguments, command="eval")
    policy, environment = options.load()
    if options.randomize is not None:
        as_modelled = nominal(environment)  # refused if there is nothing to draw
        environment = as_modelled if options.randomize == "off" else environment
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
        about: dict[str, Any] = {"env": environment.name, "episodes": options.episodes, "env_steps": policy.env_steps}
        about |= {} if options.randomize is None else {"randomize": options.randomize}
        print(json_text(about | metrics))
        return 0
    drawn = "" if options.randomize is None else f", randomize {options.randomize}"
    print(f"{environment.name}, {options.episodes} episodes, checkpoint {policy.env_steps:,}, {options.mode}{drawn}")
    for name in METRICS:
        print(f"  {name:15} {metrics[f'eval/{name}']:9.3f} ± {metrics[f'eval/{name}_stderr']:.3f}")
    for remark in remarks(metrics):
        print(remark)
    return 0
