"""A goal environment of Gymnasium as vectors of float32. Imported only where Gymnasium is installed."""

import multiprocessing
import signal
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from kilolayer.envs.gym.sources import make_env
from kilolayer.errors import ConfigurationError
from kilolayer.user_code import import_missing

PARTS = ("observation", "achieved_goal", "desired_goal")
SUCCESS = "success"
"""The entry of `info` that says whether a step ends at the goal."""

NAMES_OF_SUCCESS = ("is_success", "success")
"""Its names in packages: those of gymnasium-robotics."""

NEAR = 1e-5
"""A goal this far from another counts as the same: a reward that tells them apart is no sparse one."""


class GoalAdapter(gymnasium.Wrapper):
    """Flattens observations and goals, and says of every step whether it ends at the goal.

    An episode that terminates at its goal is over, and has not failed: it is truncated.
    """

    def __init__(self, env: Any, name: str):
        """Check and wrap an environment.

        Args:
            env: made by Gymnasium.
            name: for errors.

        Raises:
            ConfigurationError: if it has no goals, or actions that are not numbers with bounds.
        """
        super().__init__(env)
        check_spaces(env, name)
        spaces = env.observation_space.spaces
        sizes = {part: int(np.prod(spaces[part].shape)) for part in PARTS}
        self.observation_space = gymnasium.spaces.Dict(
            {part: gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32) for part, size in sizes.items()}
        )
        self._goal_shape = spaces["desired_goal"].shape
        self._goal_dtype = spaces["desired_goal"].dtype
        self.sparse = False
        """`compute_reward` has its largest value at the goal, and others elsewhere."""
        self.tells_success = False
        """`info` says whether a step ends at the goal."""
        self._at_goal = 0.0
        self._looked = False

    def look(self) -> None:
        """Take one step, to know how success is told."""
        self._looked = True
        space: Any = self.env.action_space
        before, _ = self.env.reset(seed=0)
        action = np.asarray(0.5 * space.low + 0.5 * space.high, space.dtype)
        *_, info = self.env.step(action)
        self.tells_success = any(name in info for name in NAMES_OF_SUCCESS)
        goal = np.asarray(before["desired_goal"], self._goal_dtype)
        far = np.asarray(before["achieved_goal"], self._goal_dtype)
        try:
            at, near, away = (
                float(self._reward(one, goal))
                for one in (goal, goal + np.asarray(NEAR, self._goal_dtype), far + np.asarray(1e3, self._goal_dtype))
            )
        except Exception:  # no such method, or one that needs more than goals
            return
        self.sparse, self._at_goal = at == near and at > away, at

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        if not self._looked:
            self.look()
        observation, _ = self.env.reset(seed=seed, options=options)
        return self._flat(observation), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take a step."""
        space = self.env.action_space
        observation, reward, terminated, truncated, info = self.env.step(
            np.asarray(action, space.dtype).reshape(space.shape)
        )
        success = self._success(observation, info)
        ends = bool(terminated and success)
        return (
            self._flat(observation),
            float(reward),
            bool(terminated and not success),
            bool(truncated or ends),
            {SUCCESS: success},
        )

    def at_goal(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        """Return for each row of flat goals whether it is reached, by `compute_reward`; never if that is not sparse."""
        if not self.sparse:
            return np.zeros(len(achieved), bool)
        shape = (-1, *self._goal_shape)
        achieved, desired = (np.asarray(goal, self._goal_dtype).reshape(shape) for goal in (achieved, desired))
        try:
            rewards = np.asarray(self._reward(achieved, desired), float)
        except Exception:  # it takes one goal at a time
            rewards = np.zeros(0)
        if rewards.shape != (len(achieved),):
            pairs = zip(achieved, desired, strict=True)
            rewards = np.array([float(self._reward(*pair)) for pair in pairs])
        return rewards >= self._at_goal

    def _success(self, observation: Mapping[str, Any], info: Mapping[str, Any]) -> bool:
        for name in NAMES_OF_SUCCESS:
            if name in info:
                return bool(info[name])
        return bool(self.at_goal(*(np.asarray(observation[part])[None] for part in PARTS[1:]))[0])

    def _reward(self, achieved: np.ndarray, desired: np.ndarray) -> Any:
        return self.env.get_wrapper_attr("compute_reward")(achieved, desired, {})

    def _flat(self, observation: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {part: np.asarray(observation[part], np.float32).reshape(-1) for part in PARTS}


def check_spaces(env: Any, name: str) -> None:
    """Check that an environment has goals, and actions that are numbers with bounds.

    Raises:
        ConfigurationError: naming the space and what would be right.
    """
    box = gymnasium.spaces.Box
    spaces = getattr(env.observation_space, "spaces", None)
    if not isinstance(spaces, Mapping) or not set(PARTS) <= set(spaces):
        raise ConfigurationError(
            f"env {name!r} has no goals: its observations are {_one_line(env.observation_space)}, not a Dict of "
            f"{', '.join(PARTS)}"
        )
    for part in PARTS:
        if not isinstance(spaces[part], box):
            raise ConfigurationError(f"env {name!r}: {part} is {_one_line(spaces[part])}; it must be a Box of numbers")
    if spaces["achieved_goal"].shape != spaces["desired_goal"].shape:
        raise ConfigurationError(
            f"env {name!r}: achieved_goal has shape {spaces['achieved_goal'].shape}, and desired_goal "
            f"{spaces['desired_goal'].shape}; they must be the same"
        )
    action = env.action_space
    if not isinstance(action, box):
        raise ConfigurationError(f"env {name!r}: actions are {_one_line(action)}; they must be a Box of numbers")
    if not (np.isfinite(action.low).all() and np.isfinite(action.high).all()):
        raise ConfigurationError(
            f"env {name!r}: actions are {_one_line(action)}; they must have bounds, onto which [-1, 1] is mapped"
        )


def open_env(
    name: str,
    episode_length: int,
    *,
    index: int = 0,
    imported: Sequence[str] = (),
    render_mode: str | None = None,
) -> GoalAdapter:
    """Make an environment and wrap it; also in another process, which leaves Ctrl-C to its parent.

    Args:
        name: with its prefix.
        episode_length: steps after which an episode is truncated.
        index: its place among those that step side by side.
        imported: files and modules of the user to import first.
        render_mode: of Gymnasium.
    """
    if multiprocessing.parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    import_missing(imported)
    return GoalAdapter(make_env(name, episode_length, index=index, render_mode=render_mode), name)


def _one_line(space: Any) -> str:
    return " ".join(str(space).split())[:200]
