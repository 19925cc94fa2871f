"""What a run, or its evaluation, holds in memory at least: refused before a directory is made if it cannot fit."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.extend import core

from kilolayer.envs import Environment
from kilolayer.hosts import num_processes
from kilolayer.memory import check_fits, device_memory, tree_bytes
from kilolayer.runs.config import TrainConfig
from kilolayer.training.setup import Setup, host_device
from kilolayer.training.step import learn_step, state_shape

TRACED_BATCH = 2**14
"""Rows of a batch from which on a gradient step is traced for what it needs; the products of fewer are below 1 GiB."""

PROGRAMS = (core.Jaxpr, core.ClosedJaxpr)
"""Parameters of an equation that are programs of their own, such as the body of a loop."""

SETTINGS = {"the replay buffer": "replay_capacity", "environments": "num_envs", "a gradient step": "batch_size"}
"""The setting that decides what each kind of array needs, where it is not that of an evaluation or of the networks."""


def run_bytes(setup: Setup, config: TrainConfig, *, seeds: int = 1) -> dict[str, int]:
    """Return what a run needs at least, with networks at their deepest: its state, and the rows of a large batch.

    On several devices, it is what one of them needs; those of a CPU share the memory of their process.

    Args:
        setup: of the run.
        config: the settings.
        seeds: how many are in memory at the same time.

    Returns:
        Bytes of each kind of array, by its name.
    """
    setup = setup.at(config.timetable.end)
    state = state_shape(setup)
    windows = (setup.windows or 0) / setup.replay_capacity
    # What collects beside learning has its own copy, on the host.
    copies = 2 if setup.overlap and host_device() in jax.devices() else 1
    memories = num_processes() if jax.default_backend() == "cpu" else setup.shards.devices
    spread = {
        "the replay buffer": int(seeds * tree_bytes(state.buffer) * (1.0 + windows)),
        "environments": seeds * tree_bytes(state.collector),
        "episodes of an evaluation": seeds * _episodes_bytes(setup.eval_environment, config.num_eval_envs),
        "a gradient step": seeds * _step_bytes(setup) if config.batch_size >= TRACED_BATCH else 0,
    }
    networks = {"networks and optimisers": seeds * copies * tree_bytes(state.agent)}
    return networks | {name: size // memories for name, size in spread.items()}


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
    setting = SETTINGS.get(name, "num_eval_envs")
    if name == "networks and optimisers":
        advice = f"lower {_largest(config, 'width')} or {_largest(config, 'depth')}"
    elif left > 0 and name != "a gradient step":  # whose bytes may grow with the square of the batch
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


def _step_bytes(setup: Setup) -> int:
    """Return the bytes of the largest gathered rows, product or sum of a gradient step."""
    traced = jax.make_jaxpr(lambda state: learn_step(setup, state))(state_shape(setup))
    return max(_kept_bytes(traced.jaxpr), default=0)


def _kept_bytes(program: core.Jaxpr) -> Iterator[int]:
    """Yield the bytes of results that are rarely fused into the next, of a program and of the programs inside."""
    for equation in program.eqns:
        if equation.primitive.name in ("gather", "dot_general", "reduce_sum"):
            yield tree_bytes([variable.aval for variable in equation.outvars])
        for inside in jax.tree.leaves(equation.params, is_leaf=lambda value: isinstance(value, PROGRAMS)):
            if isinstance(inside, core.ClosedJaxpr):
                yield from _kept_bytes(inside.jaxpr)
            elif isinstance(inside, core.Jaxpr):
                yield from _kept_bytes(inside)


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
