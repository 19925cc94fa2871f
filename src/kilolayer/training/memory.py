"""What a run, or its evaluation, holds in memory at least: refused before a directory is made if it cannot fit."""

import jax
import jax.numpy as jnp

from kilolayer.envs import Environment
from kilolayer.memory import check_fits, device_memory, tree_bytes
from kilolayer.runs.config import TrainConfig
from kilolayer.training.setup import Setup, host_device
from kilolayer.training.step import state_shape


def run_bytes(setup: Setup, config: TrainConfig, *, seeds: int = 1) -> dict[str, int]:
    """Return what the state of a run needs, with networks at their deepest; activations are not counted.

    Args:
        setup: of the run.
        config: the settings.
        seeds: how many are in memory at the same time.

    Returns:
        Bytes of each kind of array, by its name.
    """
    state = state_shape(setup.at(config.timetable.end))
    windows = (setup.windows or 0) / setup.replay_capacity
    # What collects beside learning has its own copy, on the host.
    copies = 2 if setup.overlap and host_device() in jax.devices() else 1
    return {
        "networks and optimisers": seeds * copies * tree_bytes(state.agent),
        "the replay buffer": int(seeds * tree_bytes(state.buffer) * (1.0 + windows)),
        "environments": seeds * tree_bytes(state.collector),
        "episodes of an evaluation": seeds * _episodes_bytes(setup.eval_environment, config.num_eval_envs),
    }


def check_run_fits(setup: Setup, config: TrainConfig, *, seeds: int = 1) -> None:
    """Check that the state of a run fits the memory.

    Args:
        setup: of the run.
        config: the settings.
        seeds: how many are in memory at the same time.

    Raises:
        ConfigurationError: saying what would fit.
    """
    needed = run_bytes(setup, config, seeds=seeds)
    name, size = max(needed.items(), key=lambda item: item[1])
    left = (device_memory() or 0) - sum(needed.values()) + size
    setting = {"the replay buffer": "replay_capacity", "environments": "num_envs"}.get(name, "num_eval_envs")
    if name == "networks and optimisers":
        advice = f"lower {_largest(config, 'width')} or {_largest(config, 'depth')}"
    elif left > 0:
        advice = f"{setting}={int(getattr(config, setting) * left / size)} would fit"
    else:
        advice = f"lower {setting}={getattr(config, setting)}"
    check_fits(needed, advice + (f", or train fewer than {seeds} seeds together" if seeds > 1 else ""))


def _largest(config: TrainConfig, kind: str) -> str:
    """Return the largest setting of a kind, `width` or `depth`: of all networks, or of a part of the agent."""
    name, value = kind, getattr(config, kind)
    for field, own in vars(config.agent_settings).items():
        if field.endswith(f"_{kind}") and isinstance(own, int) and own > value:
            name, value = f"{config.agent}.{field}", own
    return f"{name}={value}"


def check_episodes_fit(environment: Environment, num_episodes: int) -> None:
    """Check that episodes fit the memory.

    Args:
        environment: of the episodes.
        num_episodes: how many run in parallel.

    Raises:
        ConfigurationError: saying how many would fit.
    """
    size = _episodes_bytes(environment, num_episodes)
    check_fits({f"{num_episodes} episodes": size}, f"{int(num_episodes * (device_memory() or 0) / size)} would fit")


def _episodes_bytes(environment: Environment, num_episodes: int) -> int:
    """Return the bytes of episodes in parallel: the state, and what is kept of every step."""

    def one(key: jax.Array) -> tuple:
        state = environment.reset(key, 1)
        return state, environment.step(state, jnp.zeros((1, environment.action_size)))[1]

    state, result = jax.eval_shape(one, jax.eval_shape(lambda: jax.random.key(0)))
    kept = result.achieved_goal, result.success, result.reward
    return num_episodes * (tree_bytes(state) + environment.episode_length * tree_bytes(kept))
