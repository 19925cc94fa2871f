"""Policies for tests, and processes in which nothing of training can be imported."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.agents import agent_spec
from kilolayer.runs import Clocks
from kilolayer.training import Setup, init_state, policy_of
from small_runs import small_config

BLOCKED = ("mujoco", "brax", "orbax", "kilolayer.envs", "kilolayer.runs", "kilolayer.training")

BLOCK = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if any(name == each or name.startswith(each + ".") for each in {BLOCKED!r}):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block())
"""
"""Python that makes the import of environments, physics, Orbax and training fail from then on."""


def run_python(code, *arguments):
    """Run code in a new process, and return what it printed."""
    process = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def config_of(agent, **settings):
    env = "point_u_maze_discrete" if agent_spec(agent).discrete else "point_u_maze"
    return small_config(**{"env": env, "agent": agent} | settings)


def case_of(agent, **settings):
    """Return the setup of an agent, a state in which every parameter counts, and its policy."""
    config = config_of(agent, **settings)
    setup = Setup.build(config)
    rng = np.random.default_rng(0)

    def noisy(leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return leaf + jnp.asarray(0.05 * rng.standard_normal(leaf.shape), leaf.dtype)

    state = jax.tree.map(noisy, init_state(setup, 0).agent)
    return setup, state, policy_of(config, setup, state, clocks=Clocks())


def pairs_of(policy, batch=5):
    """Return observations and goals."""
    rng = np.random.default_rng(1)
    return tuple(
        rng.standard_normal((batch, size)).astype(np.float32) for size in (policy.observation_size, policy.goal_size)
    )


def edit_json(path: Path, change):
    """Change the data of a JSON file in place."""
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
