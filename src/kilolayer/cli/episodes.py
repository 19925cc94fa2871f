"""Which episodes of a run to look at: the options that `eval` and `render` share."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from kilolayer.agents import ActionMode
from kilolayer.envs import Environment, registry
from kilolayer.errors import ConfigurationError
from kilolayer.policies import Policy
from kilolayer.runs import RunDirectory
from kilolayer.runs.option_types import OptionalEngineOption
from kilolayer.training import Setup, load_policy


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpisodeOptions:
    """The policy of a run, and the episodes that it goes through."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run directory."""
    env: str | None = None
    """Environment; None takes the run's evaluation environment."""
    engine: OptionalEngineOption = None
    """Physics engine; None selects the run's engine."""
    mode: ActionMode = "deterministic"
    """How actions are chosen."""
    checkpoint: str = "latest"
    """Checkpoint: latest, best, or its env steps."""
    seed: int = 0
    """Seed of starts, goals and drawn actions."""
    episodes: int = 128
    """Episodes, each with a start and goal of its own."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        """Validate the number of episodes.

        Raises:
            ConfigurationError: if `episodes` is below one.
        """
        if self.episodes < 1:
            raise ConfigurationError(f"episodes={self.episodes} must be at least 1")

    def load(self) -> tuple[Policy, Environment]:
        """Return the policy, and the environment that it is to be seen in.

        Raises:
            RunError: if the run or its checkpoint cannot be read.
            ConfigurationError: if the environment is unknown or does not fit the policy.
        """
        config = RunDirectory.open(self.run).config()
        policy = load_policy(self.run, checkpoint=self.checkpoint)
        if self.env is not None:
            config = dataclasses.replace(config, eval_env=registry.resolve(self.env))
        if self.engine is not None:
            config = dataclasses.replace(config, engine=self.engine)
        return policy, Setup.build(config).eval_environment
