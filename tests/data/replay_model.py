"""What a replay buffer should hold and how its draws should be distributed, in plain Python and NumPy."""

from collections import deque
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from kilolayer.data import ReplayBuffer, Trajectory, empty_buffer, insert

CAPACITY = 8
NUM_ENVS = 2
NUM_CHUNKS = 12


class Step(NamedTuple):
    time: int
    episode: int
    done: bool


class RingModel:
    """The last `capacity` steps of one environment."""

    def __init__(self, capacity: int):
        self.steps: deque[Step] = deque(maxlen=capacity)
        self.time = 0
        self.episode = 0

    def append(self, done: bool) -> None:
        self.steps.append(Step(self.time, self.episode, done))
        self.time += 1
        self.episode += done

    def last_times(self) -> dict[int, int]:
        """The last time that is held of the episode of each time that is held."""
        return {step.time: max(s.time for s in self.steps if s.episode == step.episode) for step in self.steps}


def rings_after(done: np.ndarray, capacity: int) -> list[RingModel]:
    """One ring for each column of `done`, after all its steps."""
    rings = []
    for column in done.T:
        ring = RingModel(capacity)
        for step_done in column:
            ring.append(bool(step_done))
        rings.append(ring)
    return rings


def encoded_trajectory(done: np.ndarray, first_time: int = 0) -> Trajectory:
    """A trajectory whose every value tells its time and environment, differently in each field.

    Of the episodes, those whose last time is even end by failure.
    """
    times, environments = np.meshgrid(
        np.arange(first_time, first_time + len(done), dtype=np.float32),
        np.arange(done.shape[1], dtype=np.float32),
        indexing="ij",
    )
    return Trajectory(
        observation=jnp.asarray(np.stack([times, environments, np.ones_like(times)], axis=-1)),
        achieved_goal=jnp.asarray(np.stack([-times - 1, environments + 100], axis=-1)),
        desired_goal=jnp.asarray(np.stack([times + 0.5, -environments], axis=-1)),
        action=jnp.asarray(np.stack([environments + 0.5, times + 0.25], axis=-1)),
        terminated=jnp.asarray(done & (times % 2 == 0)),
        done=jnp.asarray(done),
        diverged=jnp.zeros(done.shape, bool),
    )


def empty_like(capacity: int, num_envs: int) -> ReplayBuffer:
    return empty_buffer(capacity, num_envs, observation_size=3, goal_size=2, action_size=2)


def done_patterns(num_steps: int) -> np.ndarray:
    """Where episodes end, in a family of histories: pattern, step, environment."""
    step, environment = np.arange(num_steps)[:, None], np.arange(NUM_ENVS)
    random = np.random.default_rng(1)
    patterns = [
        np.zeros((num_steps, NUM_ENVS), bool),
        np.ones((num_steps, NUM_ENVS), bool),
        (step + environment) % 5 == 3,
        (step + 2 * environment) % 11 == 4,
        np.broadcast_to(environment == 1, (num_steps, NUM_ENVS)),
        *(random.random((num_steps, NUM_ENVS)) < chance for chance in (0.1, 0.3, 0.6)),
    ]
    return np.stack(patterns)


@eqx.filter_jit
def buffers_after_each_insert(chunks: Trajectory) -> ReplayBuffer:
    def step(buffer: ReplayBuffer, chunk: Trajectory) -> tuple[ReplayBuffer, ReplayBuffer]:
        buffer = insert(buffer, chunk)
        return buffer, buffer

    return jax.lax.scan(step, empty_like(CAPACITY, NUM_ENVS), chunks)[1]


@cache
def family() -> tuple[ReplayBuffer, list[np.ndarray]]:
    """Buffers along one leading axis, and when steps ended episodes in each: partly filled, full, wrapped."""
    buffers, histories = [], []
    for length in (3, 4):  # one does not divide the capacity, one does
        for done in done_patterns(length * NUM_CHUNKS):
            chunks = jax.tree.map(
                lambda values, length=length: values.reshape(NUM_CHUNKS, length, *values.shape[1:]),
                encoded_trajectory(done),
            )
            buffers.append(buffers_after_each_insert(chunks))
            histories.extend(done[: length * (chunk + 1)] for chunk in range(NUM_CHUNKS))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *buffers), histories


GoalWeights = Callable[[int, int], float]
"""Weight of a goal k steps ahead, given how many steps the episode goes on."""


def discounted(discount: float) -> GoalWeights:
    """discount^k for k = 1 ... horizon, and the own state where there is no future."""

    def weight(ahead: int, horizon: int) -> float:
        if horizon == 0:
            return float(ahead == 0)
        return discount**ahead if 1 <= ahead <= horizon else 0.0

    return weight


def joint_distribution(done: np.ndarray, capacity: int, weight: GoalWeights) -> np.ndarray:
    """Probability of (environment, time - oldest time held, goal time - time), by enumeration."""
    rings = rings_after(done, capacity)
    probabilities = np.zeros((len(rings), capacity, capacity))
    for environment, ring in enumerate(rings):
        oldest = ring.steps[0].time
        for time, last_time in ring.last_times().items():
            weights = np.array([weight(ahead, last_time - time) for ahead in range(capacity)])
            probabilities[environment, time - oldest] = weights / weights.sum()
    return probabilities / probabilities.sum()


def p_value(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """Pearson's chi-square test; cells that expect fewer than 5 are pooled. 0 if the impossible was drawn."""
    counts, probabilities = counts.ravel(), probabilities.ravel()
    if counts[probabilities == 0].any():
        return 0.0
    order = np.argsort(-probabilities, kind="stable")[: np.count_nonzero(probabilities)]
    counts, expected = counts[order], probabilities[order] * counts.sum()
    large = int(np.count_nonzero(expected >= 5))
    if expected[large:].sum() < 5:
        large -= 1
    if large < len(expected):
        counts = np.append(counts[:large], counts[large:].sum())
        expected = np.append(expected[:large], expected[large:].sum())
    return float(stats.chisquare(counts, expected).pvalue)
