"""Small runs for tests: seconds to train, every part of the machinery in use."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kilolayer.runs import Checkpoints, RunDirectory, TrainConfig, default_config
from kilolayer.training import Setup, TrainState, state_shape

SMALL: dict[str, Any] = {
    "depth": 4,
    "width": 16,
    "batch_size": 16,
    "num_envs": 4,
    "episode_length": 20,
    "unroll_length": 10,
    "gradient_steps_per_unroll": 3,
    "replay_capacity": 60,
    "min_replay": 20,
    "total_env_steps": 400,
    "num_evals": 2,
    "num_eval_envs": 4,
}


def small_config(**settings: Any) -> TrainConfig:
    return default_config(**({"env": "point_u_maze"} | SMALL | settings))


def flags(**settings: Any) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in (SMALL | settings).items()]


def final_state(path: Path, step: int | None = None) -> TrainState:
    run = RunDirectory.open(path)
    checkpoints = Checkpoints(run.checkpoints)
    try:
        step = checkpoints.resolve(step)
        setup = Setup.build(run.config()).at(checkpoints.clocks(step))
        return checkpoints.restore(state_shape(setup), step)
    finally:
        checkpoints.close()


def assert_same_state(a: TrainState, b: TrainState) -> None:
    """Every leaf of both is the same, bit for bit."""
    leaves_a, tree_a = jax.tree_util.tree_flatten_with_path(a)
    leaves_b, tree_b = jax.tree_util.tree_flatten_with_path(b)
    assert tree_a == tree_b
    for (path, x), (_, y) in zip(leaves_a, leaves_b, strict=True):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes(), jax.tree_util.keystr(path)


def kilolayer(*arguments: str, **popen: Any) -> subprocess.Popen:
    """Start the command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "kilolayer", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | popen.pop("env", {}),
        **popen,
    )
