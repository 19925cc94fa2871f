"""Runs that learn from data that they are given: settings and data that fit each other."""

from collections.abc import Mapping
from typing import Any

import jax

from kilolayer.data import ReplayBuffer, empty_buffer
from kilolayer.errors import ConfigurationError
from kilolayer.runs.config import TrainConfig
from kilolayer.training.collector import Collector

COLLECTING_SETTINGS = ("unroll_length", "min_replay", "collector_depth")
"""Settings of collecting, which have no effect in a run that collects nothing."""


def settings_for(data: ReplayBuffer, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a run that learns from a replay buffer.

    Args:
        data: its sizes set `num_envs` and `replay_capacity`.
        settings: fields of `TrainConfig` that a user set.

    Raises:
        ConfigurationError: if one of them contradicts the data or has no effect.
    """
    implied = {"total_env_steps": 0, "num_envs": data.num_envs, "replay_capacity": data.capacity}
    for name, value in implied.items():
        if settings.get(name, value) != value:
            why = "nothing is collected" if name == "total_env_steps" else f"the data have {name}={value}"
            raise ConfigurationError(f"{name}={settings[name]} and data exclude each other: {why}; leave {name} out")
    for name in COLLECTING_SETTINGS:
        if settings.get(name) is not None:
            raise ConfigurationError(
                f"{name}={settings[name]} has no effect with data: nothing is collected; leave it out"
            )
    if settings.get("total_gradient_steps") is None:
        raise ConfigurationError(
            "total_gradient_steps is missing: with data, it alone ends the run; set it, such as 100_000"
        )
    return dict(settings) | implied


def check_data(data: ReplayBuffer, config: TrainConfig, collector: Collector) -> None:
    """Validate that data fit the settings and the environment of a run.

    Raises:
        ConfigurationError: if the run collects its own data, an array has another shape or type, or the data are empty.
    """
    if config.collects:
        raise ConfigurationError(
            f"total_env_steps={config.total_env_steps} and data exclude each other: nothing is collected; set "
            "total_env_steps=0"
        )
    expected = jax.eval_shape(
        lambda: empty_buffer(
            config.replay_capacity,
            config.num_envs,
            collector.observation_size,
            collector.goal_size,
            collector.action_size,
        )
    )
    for name in vars(expected):
        found, wanted = getattr(data, name), getattr(expected, name)
        if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            raise ConfigurationError(
                f"data.{name} is {found.dtype}{list(found.shape)}; env {config.env!r} with num_envs={config.num_envs} "
                f"and replay_capacity={config.replay_capacity} needs {wanted.dtype}{list(wanted.shape)}"
            )
    if int(data.num_steps) == 0:
        raise ConfigurationError("data hold no steps; insert some, or collect by leaving data out")
