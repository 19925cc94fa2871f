"""Runs that begin with what another run has learnt: its networks, and the data that it collected."""

import dataclasses
import os
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.agents import AgentState
from kilolayer.checkpoint_files import find_step
from kilolayer.data import ReplayBuffer, end_episodes, insert
from kilolayer.data.ring_buffer import Trajectory
from kilolayer.errors import ConfigurationError
from kilolayer.named_arrays import fill
from kilolayer.runs.checkpoints import Checkpoints
from kilolayer.runs.config import TrainConfig
from kilolayer.runs.offline import NETWORKS
from kilolayer.runs.run_directory import RunDirectory
from kilolayer.training.policies import TANDEM_LEARNERS
from kilolayer.training.setup import Setup
from kilolayer.training.step import TrainState, state_shape

OPTIMIZERS = "optimizers"
"""The part of an agent's state that begins anew."""


def check_begun_with(config: TrainConfig) -> None:
    """Validate that a run can begin with the networks of the one that its settings name.

    Raises:
        RunError: if that is no run, or it has no checkpoint.
        ConfigurationError: in one line, if the networks differ.
    """
    run = RunDirectory.open(config.init_from or "")
    theirs = run.config()
    find_step(run.checkpoints, None)
    for name in NETWORKS:
        mine, other = getattr(config, name), getattr(theirs, name)
        if mine != other:
            raise ConfigurationError(
                f"{name}={mine!r} differs from that of init_from={config.init_from!r}, which has {other!r}; leave "
                f"{name} out"
            )


def begun_with(config: TrainConfig, states: Sequence[TrainState]) -> list[TrainState]:
    """Return first states with what the run that the settings name has learnt and, if asked for, collected.

    Args:
        config: settings of the new run.
        states: of each seed, as `init_states` returns them.

    Raises:
        RunError: if that run cannot be read.
        ConfigurationError: in one line, if its networks or its data do not fit.
    """
    run = RunDirectory.open(config.init_from or "")
    with closing(Checkpoints(run.checkpoints)) as checkpoints:
        arrays = checkpoints.agent_arrays(find_step(run.checkpoints, None))
    begun = [dataclasses.replace(one, agent=_networks(config, one.agent, arrays)) for one in states]
    if not config.init_data:
        return begun
    collected = collected_by(run.path)
    return [dataclasses.replace(one, buffer=poured(collected, one.buffer)) for one in begun]


def collected_by(path: str | os.PathLike) -> ReplayBuffer:
    """Return the replay buffer in the latest checkpoint of a run.

    Raises:
        RunError: if the run cannot be read, or has no checkpoint.
    """
    run = RunDirectory.open(path)
    step = find_step(run.checkpoints, None)
    with closing(Checkpoints(run.checkpoints)) as checkpoints, run.explain_unknown_names():
        setup = Setup.build(run.config()).at(checkpoints.clocks(step))
        return checkpoints.restore(state_shape(setup), step).buffer


def _networks(config: TrainConfig, state: AgentState, arrays: dict[str, np.ndarray]) -> AgentState:
    """Return the state of a new agent with arrays of another run in place of its own, but for the optimisers."""
    learnt: Any = eqx.tree_at(lambda state: getattr(state, OPTIMIZERS), state, None)
    try:
        found = fill(learnt, {**arrays, **_of_learner(arrays)}, others=True)
    except ValueError as error:
        raise ConfigurationError(
            f"init_from={config.init_from!r}: its networks do not fit this run's: {error}; leave the settings of the "
            "agent out"
        ) from None
    return dataclasses.replace(found, optimizers=getattr(state, OPTIMIZERS))


def _of_learner(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of the agent that learns, of a run in which another one collected; else nothing."""
    prefix = TANDEM_LEARNERS[0]
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def poured(source: ReplayBuffer, target: ReplayBuffer) -> ReplayBuffer:
    """Return an empty buffer filled with the steps of another one, as many as fit, of each part the latest.

    The steps are laid one ring behind the other and cut into as many parts as the target has rings. An episode that is
    cut, or had not ended, ends there.

    Raises:
        ConfigurationError: if they do not fit each other.
    """
    for name in ("observation", "achieved_goal", "action"):
        theirs, own = getattr(source, name).shape[-1], getattr(target, name).shape[-1]
        if theirs != own:
            raise ConfigurationError(
                f"init_data=True: the {name} of that run has {theirs} numbers, and this one's {own}"
            )
    held = np.arange(int(source.num_steps - source.size), int(source.num_steps)) % source.capacity
    if held.size * source.num_envs < target.num_envs:
        raise ConfigurationError(
            f"init_data=True: that run holds {held.size * source.num_envs} steps, fewer than num_envs={target.num_envs}"
        )

    def in_line(array: jax.Array) -> np.ndarray:
        rows = np.asarray(array)[held]
        return np.swapaxes(rows, 0, 1).reshape(-1, *rows.shape[2:])

    episode = in_line(source.episode)
    ring = np.repeat(np.arange(source.num_envs), held.size)
    done = np.append((episode[1:] != episode[:-1]) | (ring[1:] != ring[:-1]), True)
    length = min(len(done) // target.num_envs, target.capacity)

    def parted(line: np.ndarray) -> jax.Array:
        share = len(line) // target.num_envs
        parts = line[: share * target.num_envs].reshape(target.num_envs, share, *line.shape[1:])[:, share - length :]
        return jnp.asarray(np.swapaxes(parts, 0, 1))

    fields = ("observation", "achieved_goal", "desired_goal", "action", "terminated", "diverged")
    trajectory = Trajectory(**{name: parted(in_line(getattr(source, name))) for name in fields}, done=parted(done))
    filled = insert(target, trajectory)
    return end_episodes(filled, ~trajectory.done[-1])
