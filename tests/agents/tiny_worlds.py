"""A world of a few states in which everything that agents learn is known exactly, by dynamic programming.

States 0 ... N-1 lie on a line. An action above 0 moves right, any other left; the ends hold. With probability `slip`
a step goes the other way. An observation is one-hot; the goal is the state, one-hot too.
"""

import dataclasses
from collections.abc import Callable
from functools import cached_property

import jax.numpy as jnp
import numpy as np

from kilolayer.data import ReplayBuffer, Trajectory, empty_buffer, insert

LEFT, RIGHT = 0, 1

Behavior = Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]
"""Maps states and goals, one for each environment, to actions: numbers in [-1, 1], or one-hot rows of LEFT, RIGHT."""


def uniform(rng: np.random.Generator, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Act at random, whatever the goal."""
    del goals
    return rng.uniform(-1.0, 1.0, states.shape)


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of states."""

    num_states: int = 4
    slip: float = 0.0
    discount: float = 0.8

    @cached_property
    def transitions(self) -> np.ndarray:
        """P(s' | s, a), indexed by a, s, s'."""
        n = self.num_states
        moves = np.zeros((2, n, n))
        for state in range(n):
            left, right = max(state - 1, 0), min(state + 1, n - 1)
            for action, (meant, other) in enumerate([(left, right), (right, left)]):
                moves[action, state, meant] += 1.0 - self.slip
                moves[action, state, other] += self.slip
        return moves

    @cached_property
    def optimal_q(self) -> np.ndarray:
        """Largest discounted number of steps that end at the goal, indexed by s, a, g."""
        n = self.num_states
        q = np.zeros((n, 2, n))
        for _ in range(2000):
            value = q.max(axis=1)
            q = np.einsum("ast,tg->sag", self.transitions, np.eye(n) + self.discount * value)
        return q

    @cached_property
    def optimal_actions(self) -> np.ndarray:
        """Whether an action is optimal, indexed by s, a, g."""
        return self.optimal_q > self.optimal_q.max(axis=1, keepdims=True) - 1e-6

    @cached_property
    def steps_to_go(self) -> np.ndarray:
        """Steps between states on the shortest way, indexed by s, g."""
        states = np.arange(self.num_states)
        return np.abs(states[:, None] - states)

    def occupancy(self, right: float = 0.5) -> np.ndarray:
        """Return p(g | s, a): where a state k steps ahead lies, k geometric, indexed by s, a, g.

        Args:
            right: the probability with which the behaviour moves right, everywhere.
        """
        mean = (1.0 - right) * self.transitions[LEFT] + right * self.transitions[RIGHT]
        future = np.linalg.inv(np.eye(self.num_states) - self.discount * mean)
        return (1.0 - self.discount) * np.einsum("ast,tg->sag", self.transitions, future)

    def collect(
        self,
        *,
        num_envs: int = 64,
        length: int = 256,
        episode_length: int = 64,
        behavior: Behavior = uniform,
        seed: int = 0,
        starts: np.ndarray | None = None,
    ) -> Trajectory:
        """Return what a behaviour does, with starts and goals drawn evenly; episodes are truncated."""
        rng = np.random.default_rng(seed)
        n = self.num_states
        choices = np.arange(n) if starts is None else starts
        states, goals = rng.choice(choices, num_envs), rng.integers(0, n, num_envs)
        rows: list[tuple[np.ndarray, ...]] = []
        for time in range(length):
            actions = np.asarray(behavior(rng, states, goals), np.float32)
            moves_right = actions > 0.0 if actions.ndim == 1 else actions[:, RIGHT] > actions[:, LEFT]
            done = np.full(num_envs, (time + 1) % episode_length == 0)
            rows.append((states, goals, actions if actions.ndim == 2 else actions[:, None], done))
            chances = self.transitions[moves_right.astype(int), states]
            states = (chances.cumsum(axis=1) > rng.random((num_envs, 1))).argmax(axis=1)
            states = np.where(done, rng.choice(choices, num_envs), states)
            goals = np.where(done, rng.integers(0, n, num_envs), goals)
        state, goal, action, done = (np.stack(column) for column in zip(*rows, strict=True))
        one_hot = np.eye(n, dtype=np.float32)
        return Trajectory(
            observation=jnp.asarray(one_hot[state]),
            achieved_goal=jnp.asarray(one_hot[state]),
            desired_goal=jnp.asarray(one_hot[goal]),
            action=jnp.asarray(action),
            terminated=jnp.zeros(done.shape, bool),
            done=jnp.asarray(done),
            diverged=jnp.zeros(done.shape, bool),
        )

    def buffer(self, **settings) -> ReplayBuffer:
        """Return a buffer that holds all of what `collect` returns for these settings."""
        trajectory = self.collect(**settings)
        length, num_envs, action_size = trajectory.action.shape
        return insert(empty_buffer(length, num_envs, self.num_states, self.num_states, action_size), trajectory)

    def everything(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return observations, actions (a number each: -0.5 and 0.5) and goals of all s, a, g, in that order."""
        n = self.num_states
        state, action, goal = (axis.ravel() for axis in np.meshgrid(range(n), range(2), range(n), indexing="ij"))
        one_hot = np.eye(n, dtype=np.float32)
        return one_hot[state], (action - 0.5).astype(np.float32)[:, None], one_hot[goal]


def same_state(achieved_goal, desired_goal):
    """Say whether the goal is reached."""
    return jnp.argmax(achieved_goal) == jnp.argmax(desired_goal)
