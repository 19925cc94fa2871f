"""What a run will take, before it is started: sizes, parameters, memory and compile time."""

import math
import time
from typing import Any

import jax

from kilolayer.training.config import TrainConfig
from kilolayer.training.setup import Setup
from kilolayer.training.step import compile_steps, init_state


def plan(config: TrainConfig) -> dict[str, Any]:
    """Compile the training step of a configuration, train nothing, and return what is known then.

    Returns:
        Sizes in numbers, bytes in bytes, times in seconds.
    """
    setup = Setup.build(config).at(config.total_env_steps)  # at its deepest
    state = jax.eval_shape(lambda: init_state(setup))
    trace_seconds = compile_seconds = 0.0
    peaks = []
    for step in compile_steps(setup):
        began = time.monotonic()
        lowered = step.lower(state)
        traced = time.monotonic()
        memory = lowered.compile().memory_analysis()
        trace_seconds += traced - began
        compile_seconds += time.monotonic() - traced
        if memory is not None:
            peaks.append(memory.argument_size_in_bytes + memory.temp_size_in_bytes)
    rounds = config.num_unrolls - config.prefill_env_steps // config.env_steps_per_unroll
    return {
        "env": setup.environment.name,
        "eval_env": setup.eval_environment.name,
        "observation_size": setup.environment.observation_size,
        "goal_size": setup.environment.goal_size,
        "action_size": setup.environment.action_size,
        "env_steps": config.num_unrolls * config.env_steps_per_unroll,
        "gradient_steps": rounds * config.gradient_steps_per_unroll,
        **{f"{name}_parameters": count for name, count in setup.agent.parameter_counts().items()},
        "replay_bytes": _bytes(state.buffer),
        "state_bytes": _bytes(state),
        "step_peak_bytes": max(peaks, default=None),
        "trace_seconds": trace_seconds,
        "compile_seconds": compile_seconds,
    }


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape"))
