"""What the tests of SAC and TD3 share: small agents, states, batches and a buffer, all of random numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.agents import SAC, TD3, SACHERConfig, TD3HERConfig
from kilolayer.data import ReplayBuffer, Trajectory, Transitions, empty_buffer, insert
from kilolayer.nn import ResidualArchitecture

OBSERVATION, GOAL, ACTION, BATCH = 4, 2, 3, 16
MODES = ("deterministic", "stochastic", "best_of")
CONFIGS = {SAC: SACHERConfig, TD3: TD3HERConfig}

act = jax.jit(
    lambda agent, *inputs, mode="deterministic": agent.act(*inputs, mode), static_argnums=0, static_argnames="mode"
)
learn = jax.jit(lambda agent, *inputs: agent.learn(*inputs), static_argnums=0)
value = jax.jit(lambda agent, *inputs: agent.value(*inputs), static_argnums=0)


def close(achieved_goal, desired_goal):
    """Say whether the goal is reached: about one in five are, of random ones."""
    return jnp.linalg.norm(achieved_goal - desired_goal) < 1.0


def agent_with(kind, batch_size=BATCH, depth=2, width=8, relabel_ratio=0.5, **config):
    """A small agent of this class."""
    return kind(
        observation_size=OBSERVATION,
        goal_size=GOAL,
        action_size=ACTION,
        batch_size=batch_size,
        depth=depth,
        width=width,
        architecture=ResidualArchitecture(block_size=2),
        config=CONFIGS[kind](relabel_ratio=relabel_ratio, **config),
        success=close,
    )


@functools.cache
def random_state(agent):
    """Return a state like a new one, but with every number off: target networks are others, and moments are warm.

    What is added depends on a number's name and place alone.
    """

    def draw(path, leaf):
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            return leaf
        rng = np.random.default_rng(list(jax.tree_util.keystr(path).encode()))
        return leaf + jnp.asarray(0.1 * rng.random(leaf.shape), leaf.dtype)

    with jax.enable_x64(False):
        return jax.tree_util.tree_map_with_path(draw, jax.jit(agent.init)(jax.random.key(0)))


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def random_batch(size=BATCH, seed=0) -> Transitions:
    """A batch in which some steps fail, and of some the next state is unknown."""
    goal = normal(size, GOAL, seed=seed + 1)
    index = np.arange(size)
    return Transitions(
        observation=normal(size, OBSERVATION, seed=seed + 2),
        action=jnp.tanh(normal(size, ACTION, seed=seed + 3)),
        desired_goal=goal,
        next_observation=normal(size, OBSERVATION, seed=seed + 4),
        next_achieved_goal=goal + jnp.asarray(index % 3, jnp.float32)[:, None],
        next_desired_goal=goal + 0.1,
        terminated=jnp.asarray(index % 5 == 0),
        known=jnp.asarray((index % 7 != 3) | (index % 5 == 0)),
    )


@functools.cache
def small_buffer() -> ReplayBuffer:
    length, num_envs = 24, 3
    trajectory = Trajectory(
        observation=normal(length, num_envs, OBSERVATION),
        achieved_goal=normal(length, num_envs, GOAL, seed=1),
        desired_goal=normal(length, num_envs, GOAL, seed=3),
        action=jnp.tanh(normal(length, num_envs, ACTION, seed=2)),
        terminated=jnp.zeros((length, num_envs), bool).at[11, 0].set(True),
        done=jnp.zeros((length, num_envs), bool).at[11].set(True),
        diverged=jnp.zeros((length, num_envs), bool),
    )
    return insert(empty_buffer(length, num_envs, OBSERVATION, GOAL, ACTION), trajectory)


def in_float64(tree):
    def widen(leaf):
        return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(widen, tree)


def assert_trees_close(tree, expected, **tolerances):
    for ours, theirs in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, **tolerances)


def join(*arrays):
    return jnp.concatenate(arrays, axis=-1)


def sparse_target(batch, next_value, discount):
    """r + discount * V(s', g), written out: a goal that is reached is worth 1, and a failure ends all."""
    reached = jnp.linalg.norm(batch.next_achieved_goal - batch.next_desired_goal, axis=-1) < 1.0
    return jnp.where(batch.terminated, 0.0, reached + discount * next_value)


def squared_error(critic, batch, target):
    """The loss of both critics over the steps whose next state is known, written out."""
    inputs = join(batch.observation, batch.action, batch.desired_goal)
    errors = [(network(inputs)[:, 0] - target) ** 2 for network in (critic.first, critic.second)]
    return jnp.sum(sum(errors) * batch.known) / jnp.sum(batch.known)


def outcome(agent):
    """Say what an agent makes of one batch: its target, its actions, and what moves in two steps.

    `follows` is how far the target critic goes towards the critic in the second step, in which TD3 moves it too.
    """
    observation, goal, batch = normal(5, OBSERVATION), normal(5, GOAL, seed=1), random_batch()

    @jax.jit
    def look(state):
        key = jax.random.key(1)

        def step(state, _):
            state, _ = agent.learn(state, batch, key)
            return state, (state.actor.head.bias, *(c.first.head.weight for c in (state.critic, state.target_critic)))

        _, (actor, critic, slow) = jax.lax.scan(step, state, length=2)
        return {
            "target": agent.target(state, batch, key),
            **{mode: agent.act(state, observation, goal, key, mode) for mode in MODES},
            "value": agent.value(state, observation, goal),
            "actor_moves_first": jnp.any(actor[0] != state.actor.head.bias),
            "follows": jnp.linalg.norm(slow[1] - slow[0]) / jnp.linalg.norm(critic[1] - slow[0]),
        }

    return {name: np.asarray(found, float) for name, found in look(random_state(agent)).items()}


def changed_by(kind, option, value):
    """Name what of the outcome an option changes."""
    assert getattr(CONFIGS[kind](), option) != value
    plain, ours = default_outcome(kind), outcome(agent_with(kind, **{option: value}))
    return {name for name in plain if not np.allclose(ours[name], plain[name], rtol=1e-3)}


@functools.cache
def default_outcome(kind):
    return outcome(agent_with(kind))


ACTOR = {"target", *MODES, "value"}
# What the options that both have change. In SAC the target takes the actor, in TD3 a target actor of the same size.
OPTIONS = {
    "discount": (0.5, {"target"}),
    "target_rate": (0.1, {"follows"}),
    "actor_depth": (4, ACTOR),
    "actor_width": (16, ACTOR),
    "critic_depth": (0, {"target", "best_of", "value"}),
    "critic_width": (16, {"target", "best_of", "value"}),
    "candidates": (2, {"best_of"}),
}
# Shown by a step that moves every parameter by its own learning rate.
LEARNING_RATES = {"actor_learning_rate", "critic_learning_rate"}
