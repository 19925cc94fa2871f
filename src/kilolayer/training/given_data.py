"""Runs that learn from data that they are given: settings and data that fit each other."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.data import ReplayBuffer, empty_buffer
from kilolayer.data.datasets import Dataset, read_dataset
from kilolayer.envs import Environment, make
from kilolayer.errors import ConfigurationError
from kilolayer.runs.config import TrainConfig
from kilolayer.runs.offline import UNKNOWN_ROWS
from kilolayer.training.collector import Collector

COLLECTING_SETTINGS = ("unroll_length", "min_replay", "collector_depth")
"""Settings of collecting, which have no effect in a run that collects nothing."""


def with_dataset(config: TrainConfig) -> tuple[TrainConfig, ReplayBuffer | None]:
    """Read the data set that the settings name.

    Returns:
        The settings with the size of the data, and the data; the settings alone if they name none.

    Raises:
        ConfigurationError: in one line, if there is no such data set, or it does not fit the environment.
    """
    if config.dataset is None:
        return config, None
    environment = make(config.env, episode_length=config.episode_length, engine=config.engine, variant=config.variant)
    data = fitted(read_dataset(config.dataset, config.dataset_dir), environment, config.dataset).to_buffer()
    if config.replay_capacity not in (UNKNOWN_ROWS, data.capacity):
        raise ConfigurationError(
            f"replay_capacity={config.replay_capacity} and dataset={config.dataset!r} exclude each other: it has "
            f"{data.capacity} rows; leave replay_capacity out"
        )
    return dataclasses.replace(config, replay_capacity=data.capacity), data


def fitted(data: Dataset, environment: Environment, name: str) -> Dataset:
    """Return a data set with goals, as an environment has them, or say how it does not fit.

    Where the data tell no achieved goals, they are the observations if the environment's goals are. An episode that
    ended at its goal did not fail.

    Args:
        data: as it was read.
        environment: to learn in.
        name: of the data set, for messages.

    Raises:
        ConfigurationError: in one line.
    """
    for what, found, wanted in (
        ("observation", data.observation.shape[1], environment.observation_size),
        ("action", data.action.shape[1], environment.action_size),
        *((goal, array.shape[1], environment.goal_size) for goal, array in _goals(data).items()),
    ):
        if found != wanted:
            raise ConfigurationError(
                f"dataset={name!r}: its {what} has {found} numbers, and that of env {environment.name!r} has {wanted}"
            )
    if data.achieved_goal is None:
        if environment.goal_size != environment.observation_size:
            raise ConfigurationError(
                f"dataset={name!r} tells no achieved goals, and those of env {environment.name!r} are not its "
                "observations; add achieved goals to the data"
            )
        data = dataclasses.replace(data, achieved_goal=data.observation)
    if not data.failed.any() or data.desired_goal is None or not environment.has_success:
        return data
    assert data.achieved_goal is not None
    at_goal = jax.vmap(environment.task.success)(jnp.asarray(data.achieved_goal), jnp.asarray(data.desired_goal))
    return dataclasses.replace(data, failed=data.failed & ~np.asarray(at_goal))


def _goals(data: Dataset) -> dict[str, np.ndarray]:
    return {name: array for name in ("achieved_goal", "desired_goal") if (array := getattr(data, name)) is not None}


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
    for name in (field.name for field in dataclasses.fields(expected) if field.name != "shards"):
        found, wanted = getattr(data, name), getattr(expected, name)
        if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            raise ConfigurationError(
                f"data.{name} is {found.dtype}{list(found.shape)}; env {config.env!r} with num_envs={config.num_envs} "
                f"and replay_capacity={config.replay_capacity} needs {wanted.dtype}{list(wanted.shape)}"
            )
    if int(data.num_steps) == 0:
        raise ConfigurationError("data hold no steps; insert some, or collect by leaving data out")
