"""OGBench's environments with goals in their observations. Imported only where Gymnasium is installed."""

from typing import Any

import gymnasium
import numpy as np


class OgbenchGoals(gymnasium.Wrapper):
    """Shows the goal of OGBench, which is an observation, as desired goal, and the observation as achieved goal.

    Environments go through the tasks of OGBench in turn, so that those of an evaluation are shared out evenly. OGBench
    draws noise from numpy's global generator; here each environment has its own in its place, so that a seed gives the
    same episodes.
    """

    def __init__(self, env: Any, first: int):
        """Wrap an environment.

        Args:
            env: of OGBench.
            first: the task of the first episode after a seed was given, counted through all tasks.
        """
        super().__init__(env)
        space = env.observation_space
        self.observation_space = gymnasium.spaces.Dict(
            dict.fromkeys(("observation", "achieved_goal", "desired_goal"), space)
        )
        self._tasks, self._first, self._next = int(env.unwrapped.num_tasks), first, first
        self._random = np.random.RandomState(0).get_state()
        self._goal = np.zeros(space.shape, space.dtype)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode of the next task; with a seed, of the first."""
        del options
        if seed is not None:
            self._next = self._first
            self._random = np.random.RandomState(seed).get_state()
            self.env.action_space.seed(seed)
        others = np.random.get_state()
        np.random.set_state(self._random)
        try:
            observation, info = self.env.reset(seed=seed, options={"task_id": self._next % self._tasks + 1})
        finally:
            self._random = np.random.get_state()
            np.random.set_state(others)
        self._next += 1
        self._goal = np.asarray(info["goal"], observation.dtype)
        return self._seen(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step."""
        others = np.random.get_state()
        np.random.set_state(self._random)
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        finally:
            self._random = np.random.get_state()
            np.random.set_state(others)
        return self._seen(observation), reward, terminated, truncated, info

    def _seen(self, observation: Any) -> dict[str, Any]:
        return {"observation": observation, "achieved_goal": observation, "desired_goal": self._goal}
