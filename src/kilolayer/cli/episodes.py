"""Which episodes of a run to look at: the options that `eval` and `render` share."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from kilolayer.agents import ActionMode
from kilolayer.envs import Environment, registry
from kilolayer.policies import Policy
from kilolayer.runs import RunDirectory
from kilolayer.runs.option_types import OptionalEngineOption
from kilolayer.settings import check_count, check_seed
from kilolayer.training import Setup, load_policy
from kilolayer.training.memory import check_episodes_fit


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpisodeOptions:
    """The policy of a run, and the episodes that it goes through."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Directory of a run."""
    env: str | None = None
    """Environment to see it in; None takes the run's evaluation environment."""
    engine: OptionalEngineOption = None
    """Physics engine; None selects the run's engine."""
    mode: ActionMode = "deterministic"
    """How actions are chosen."""
    checkpoint: str = "latest"
    """Checkpoint: latest, best, or its env steps; or untrained: the networks that the run began with."""
    seed: int = 0
    """Seed of all randomness: starts, goals and drawn actions."""
    episodes: int = 128
    """Episodes, each with a start and goal of its own."""
    json: bool = False
    """Print JSON: one object."""

    def __post_init__(self) -> None:
        """Validate the number of episodes and the seed.

        Raises:
            ConfigurationError: if one is out of its range.
        """
        check_count("episodes", self.episodes)
        check_seed(self.seed)

    def load(self) -> tuple[Policy, Environment]:
        """Return the policy, and the environment that it is to be seen in.

        Raises:
            RunError: if the run or its checkpoint cannot be read.
            ConfigurationError: if the environment is unknown or does not fit the policy.
        """
        directory = RunDirectory.open(self.run)
        config = directory.config()
        policy = load_policy(self.run, checkpoint=self.checkpoint)
        if self.env is not None:
            config = dataclasses.replace(config, eval_env=registry.resolve(self.env))
        if self.engine is not None:
            config = dataclasses.replace(config, engine=self.engine)
        with directory.explain_unknown_names():
            environment = Setup.build(config).eval_environment
        check_episodes_fit(environment, self.episodes)
        return policy, environment
