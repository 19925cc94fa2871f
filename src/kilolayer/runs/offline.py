"""Runs that learn from a data set, or begin with what another run has learnt: settings, and what excludes what."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from kilolayer.errors import ConfigurationError
from kilolayer.settings import MOST_STEPS

TOTAL_GRADIENT_STEPS = 100_000
"""Of a run that learns from a data set, unless they are given."""

UNKNOWN_ROWS = MOST_STEPS
"""The replay capacity of such a run before its data set is read."""

WITHOUT_COLLECTING: Mapping[str, Any] = MappingProxyType(
    {"num_envs": 1, "unroll_length": 1, "min_replay": 0, "fixed_goals": False}
)
"""Settings of collecting in a run that learns from a data set, which is one ring of a replay buffer."""

OFFLINE: Mapping[str, Any] = MappingProxyType(
    {
        **WITHOUT_COLLECTING,
        "total_env_steps": 0,
        "total_gradient_steps": TOTAL_GRADIENT_STEPS,
        "replay_capacity": UNKNOWN_ROWS,
    }
)
"""Default settings of a run that learns from a data set."""

NETWORKS = ("agent", "torso", "depth", "width", "architecture")
"""Settings that a run has in common with the one whose networks it begins with."""


def check_given(config: Any) -> None:
    """Validate what a run is given to learn from, and to begin with.

    Args:
        config: the settings, a `TrainConfig`.

    Raises:
        ConfigurationError: in one line, for settings that exclude each other or have no effect.
    """
    if config.dataset is None:
        if config.dataset_dir is not None:
            raise ConfigurationError(f"dataset_dir={config.dataset_dir!r} has no effect without dataset; leave it out")
    else:
        _check_nothing_collects(config, f"dataset={config.dataset!r}")
    if config.init_from is None:
        if config.init_data:
            raise ConfigurationError("init_data=True has no effect without init_from; leave it out")
    elif config.collector_depth is not None:
        raise ConfigurationError(
            f"init_from={config.init_from!r} and collector_depth={config.collector_depth} exclude each other: "
            "that run has no networks for a second agent; leave one of them out"
        )
    elif config.init_data and config.total_env_steps == 0:
        raise ConfigurationError(
            "init_data=True has no effect where nothing is collected; record the data of the run as a data set, or "
            "leave it out"
        )


def _check_nothing_collects(config: Any, asked: str) -> None:
    if config.total_env_steps != 0:
        raise ConfigurationError(
            f"total_env_steps={config.total_env_steps} and {asked} exclude each other: nothing is collected; leave "
            "total_env_steps out"
        )
    for name, value in WITHOUT_COLLECTING.items():
        if getattr(config, name) != value:
            raise ConfigurationError(
                f"{name}={getattr(config, name)} has no effect with {asked}: nothing is collected; leave it out"
            )
