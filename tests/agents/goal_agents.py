"""What the tests of C-learning and quasimetric RL share: small agents, states, batches, and a tiny world to learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.agents import QRL, CLearning, CLearningConfig, QRLConfig
from kilolayer.data import Trajectory, Transitions, empty_buffer, insert
from kilolayer.nn import ResidualArchitecture

OBSERVATION, GOAL, ACTION, BATCH = 4, 2, 3, 8


def c_learning(batch_size=BATCH, depth=2, width=8, **config):
    """Return a small C-learning agent."""
    return _small(CLearning, CLearningConfig(**config), batch_size, depth, width)


def qrl(batch_size=BATCH, depth=2, width=8, **config):
    """Return a small QRL agent."""
    return _small(QRL, QRLConfig(**{"representation_size": 6, "component_size": 3} | config), batch_size, depth, width)


def _small(kind, config, batch_size, depth, width):
    return kind(
        observation_size=OBSERVATION,
        goal_size=GOAL,
        action_size=ACTION,
        batch_size=batch_size,
        depth=depth,
        width=width,
        architecture=ResidualArchitecture(block_size=2),
        config=config,
    )


@functools.cache
def first_state(agent):
    """Return a state like a new one, but with networks whose numbers depend on their names and shapes alone."""

    def draw(path, leaf):
        name = jax.tree_util.keystr(path)
        rng = np.random.default_rng(list(name.encode()))
        if name.endswith(".weight"):
            return jnp.asarray(rng.uniform(-1.0, 1.0, leaf.shape) / np.sqrt(leaf.shape[-2]), leaf.dtype)
        return jnp.asarray(name.endswith(".scale") + 0.1 * rng.standard_normal(leaf.shape), leaf.dtype)

    networks = (".actor.", ".critic.", ".target_critic.")
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: draw(path, leaf) if jax.tree_util.keystr(path).startswith(networks) else leaf,
        jax.jit(agent.init)(jax.random.key(0)),
    )


def normal(*shape, seed=0):
    """Return standard normal numbers."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def random_batch(size=BATCH, seed=0):
    """Return transitions of which one ends in failure and one leads nobody knows where."""
    return Transitions(
        observation=normal(size, OBSERVATION, seed=seed),
        action=jnp.tanh(normal(size, ACTION, seed=seed + 1)),
        desired_goal=normal(size, GOAL, seed=seed + 2),
        next_observation=normal(size, OBSERVATION, seed=seed + 3),
        next_achieved_goal=normal(size, GOAL, seed=seed + 4),
        next_desired_goal=normal(size, GOAL, seed=seed + 2),
        terminated=jnp.arange(size) == 2,
        known=jnp.arange(size) != 5,
    )


@functools.cache
def small_buffer():
    """Return a buffer with two episodes of each of three environments, one of which fails."""
    length, num_envs = 24, 3
    done = jnp.zeros((length, num_envs), bool).at[11].set(True)
    trajectory = Trajectory(
        observation=normal(length, num_envs, OBSERVATION),
        achieved_goal=normal(length, num_envs, GOAL, seed=1),
        desired_goal=normal(length, num_envs, GOAL, seed=3),
        action=jnp.tanh(normal(length, num_envs, ACTION, seed=2)),
        terminated=done.at[:, 1:].set(False),
        done=done,
        diverged=jnp.zeros_like(done),
    )
    return insert(empty_buffer(length, num_envs, OBSERVATION, GOAL, ACTION), trajectory)


def on_the_line(kind, world, config, batch_size=64, width=32):
    """Return an agent for a line of states."""
    n = world.num_states
    architecture = ResidualArchitecture(block_size=2)
    return kind(n, n, 1, batch_size=batch_size, depth=2, width=width, architecture=architecture, config=config)


def train(agent, state, buffer, steps):
    """Take so many gradient steps; return the new state, and the metrics of all steps."""
    keys = jax.random.split(jax.random.key(1), steps)

    @jax.jit
    def run(state, keys):
        return jax.lax.scan(lambda state, key: agent.update(state, buffer, key), state, keys)

    return run(state, keys)


def best_actions_chosen(agent, state, world):
    """Say for every state and goal whether the deterministic action is an optimal one."""
    n = world.num_states
    states, goals = (axis.ravel() for axis in np.meshgrid(range(n), range(n), indexing="ij"))
    one_hot = jnp.eye(n)
    actions = jax.jit(agent.act)(state, one_hot[states], one_hot[goals], jax.random.key(0))
    return world.optimal_actions[states, (np.asarray(actions)[:, 0] > 0.0).astype(int), goals].reshape(n, n)
