"""SAC and TD3, with and without hindsight, find the optimal Q and actions of a world in which both are known."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_worlds import Line, same_state

from kilolayer.agents import SAC, TD3, SACHERConfig, TD3HERConfig
from kilolayer.data import ReplayBuffer, empty_buffer, insert
from kilolayer.nn import ResidualArchitecture

UNDECIDED = 0.3
NUM_UPDATES = 2000
UPDATES_BEFORE_ACTOR = 500
RATES = {"discount": 0.8, "actor_learning_rate": 1e-3, "critic_learning_rate": 2e-3, "target_rate": 0.05}
AGENTS = {
    # Next to no entropy is asked for, so that the optimum is that of the rewards alone.
    SAC: SACHERConfig(**RATES, initial_alpha=1e-4, alpha_learning_rate=0.0),
    TD3: TD3HERConfig(**RATES, smoothing_noise=0.05),
}


def either_way(rng, states, goals):
    del goals
    return rng.choice([-1.0, 1.0], states.shape)


def buffer_of(line: Line) -> ReplayBuffer:
    """Return what random behaviour does. Within +-UNDECIDED, the chance of moving right rises evenly from 0 to 1.

    Thus the Q of an action has a slope where an actor begins: it could not climb a step. Episodes are long: hindsight
    is blind to goals that were missed by chance, and the more so the nearer an episode's end.
    """
    trajectory = line.collect(num_envs=32, length=512, episode_length=512, behavior=either_way)
    actions = np.linspace(-1.0, 1.0, 2001)
    chance_of_right = np.clip(0.5 + 0.5 * actions / UNDECIDED, 0.0, 1.0)
    quantile = np.random.default_rng(1).random(trajectory.action.shape)
    if_right = np.interp(quantile, chance_of_right.cumsum() / chance_of_right.sum(), actions)
    action = jnp.asarray(trajectory.action * if_right, jnp.float32)
    empty = empty_buffer(512, 32, line.num_states, line.num_states, 1)
    return insert(empty, dataclasses.replace(trajectory, action=action))


@functools.partial(jax.jit, static_argnums=0)
def train(agent, buffer, key):
    """Take all updates. The actor waits for the critics: it could settle where nothing pulls it back from."""
    first = agent.init(key)
    actors = [name for name in ("actor", "target_actor") if hasattr(first, name)]

    def step(state, turn):
        number, key = turn
        state, _ = agent.update(state, buffer, key)
        learnt, begun = ({name: getattr(s, name) for name in actors} for s in (state, first))
        chosen = jax.tree.map(lambda *both: jnp.where(number < UPDATES_BEFORE_ACTOR, *both), begun, learnt)
        return dataclasses.replace(state, **chosen), None

    turns = (jnp.arange(NUM_UPDATES), jax.random.split(key, NUM_UPDATES))
    return jax.lax.scan(step, first, turns)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("slip", "tolerance"),
    [pytest.param(0.0, 0.05, id="certain"), pytest.param(0.1, 0.1, id="slippery")],
)
@pytest.mark.parametrize("relabeled", [pytest.param(0.0, id="commanded"), pytest.param(0.8, id="hindsight")])
@pytest.mark.parametrize("kind", [SAC, TD3], ids=["sac", "td3"])
def test_q_and_actions_become_the_optimal_ones(kind, relabeled, slip, tolerance):
    """Up to a share of the largest Q; with slips, batches are noisy, and so is what is learnt from them."""
    line = Line(slip=slip)
    n = line.num_states
    agent = kind(
        observation_size=n,
        goal_size=n,
        action_size=1,
        batch_size=128,
        depth=2,
        width=32,
        architecture=ResidualArchitecture(block_size=2),
        config=dataclasses.replace(AGENTS[kind], relabel_ratio=relabeled),
        success=same_state,
    )
    state = train(agent, buffer_of(line), jax.random.key(0))
    tolerance = tolerance * line.optimal_q.max()

    observation, action, goal = map(jnp.asarray, line.everything())
    q = np.asarray(state.target_critic(observation, 2.0 * action, goal)).reshape(2, n, 2, n)
    np.testing.assert_allclose(q, np.broadcast_to(line.optimal_q, q.shape), atol=tolerance)

    one_hot = jnp.eye(n)
    pairs = (jnp.repeat(one_hot, n, axis=0), jnp.tile(one_hot, (n, 1)))
    chosen = np.asarray(agent.act(state, *pairs, jax.random.key(0))).reshape(n, 1, n)
    its_q = np.take_along_axis(line.optimal_q, (chosen > 0.0).astype(int), axis=1)[:, 0]
    regret = line.optimal_q.max(axis=1) - its_q
    assert regret.max() < (1e-6 if slip == 0.0 else tolerance)
    assert np.all(np.abs(chosen)[:, 0][np.ptp(line.optimal_q, axis=1) > tolerance] > UNDECIDED)
    value = np.asarray(agent.value(state, *pairs)).reshape(n, n)
    np.testing.assert_allclose(value, line.optimal_q.max(axis=1), atol=tolerance)
