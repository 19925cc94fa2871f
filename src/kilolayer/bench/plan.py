"""What a run will take, before it is started: sizes, parameters, memory and compile time."""

import math
import time
from typing import Any

import jax
import jax.numpy as jnp

from kilolayer.machine import cpu_cores
from kilolayer.runs.config import TrainConfig
from kilolayer.runs.seed_group import SeedsMode
from kilolayer.training.setup import Setup
from kilolayer.training.step import compile_steps, state_shape


def plan(config: TrainConfig, *, seeds: int = 1, mode: SeedsMode = "threads") -> dict[str, Any]:
    """Compile the training step of a configuration, train nothing, and return what is known then.

    Args:
        config: the settings.
        seeds: to train side by side.
        mode: how several are moved.

    Returns:
        Sizes in numbers, bytes in bytes, times in seconds. Env and gradient steps, and parameters, are those of each
        seed; bytes are those of all together.
    """
    setup = Setup.build(config).at(config.timetable.end)  # at its deepest
    state = state_shape(setup)
    stacked = seeds > 1 and mode == "vmap"
    stepped = (
        jax.eval_shape(lambda one: jax.tree.map(lambda x: jnp.stack([x] * seeds), one), state) if stacked else state
    )
    at_once = 1 if stacked else min(seeds, cpu_cores())
    idle_bytes = 0 if stacked else (seeds - at_once) * _bytes(state)
    trace_seconds = compile_seconds = 0.0
    peaks = []
    collect, learn = compile_steps(setup, stacked=stacked)
    for step in (collect, learn) if config.collects else (learn,):
        began = time.monotonic()
        lowered = step.lower(stepped)
        traced = time.monotonic()
        memory = lowered.compile().memory_analysis()
        trace_seconds += traced - began
        compile_seconds += time.monotonic() - traced
        if memory is not None:
            peaks.append(at_once * (memory.argument_size_in_bytes + memory.temp_size_in_bytes) + idle_bytes)
    end = config.timetable.end
    return {
        "env": setup.environment.name,
        "eval_env": setup.eval_environment.name,
        "observation_size": setup.environment.observation_size,
        "goal_size": setup.environment.goal_size,
        "action_size": setup.environment.action_size,
        "env_steps": end.env_steps,
        "gradient_steps": end.gradient_steps,
        **{f"{name}_parameters": count for name, count in setup.agent.parameter_counts().items()},
        **({"seeds": seeds, "seeds_mode": mode} if seeds > 1 else {}),
        "replay_bytes": seeds * _bytes(state.buffer),
        "state_bytes": seeds * _bytes(state),
        "step_peak_bytes": max(peaks, default=None),
        "trace_seconds": trace_seconds,
        "compile_seconds": compile_seconds,
    }


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape"))
