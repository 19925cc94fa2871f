"""A batch of environments of this library as a vector environment of Gymnasium. Needs Gymnasium when imported."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import gymnasium
import jax
import numpy as np
from jaxtyping import Array

from kilolayer.envs.environment import Environment
from kilolayer.envs.gym.goals import FAILED, NOT_DRAWN, SUCCESS, TRUNCATED, Drawing, GoalFunctions, GoalMethods, Reward

SEEN = ("observation", "achieved_goal", "desired_goal")


class VectorGoalEnv(GoalMethods, gymnasium.vector.VectorEnv):
    """Many robots, stepped by one compiled program.

    An episode that ends begins again in the same step (`AutoresetMode.SAME_STEP`): its last observation is in
    `info["final_obs"]`, its last flags in `info["final_info"]`.
    """

    def __init__(
        self,
        environment: Environment,
        num_envs: int,
        *,
        reward: Reward | None = None,
        render_mode: str | None = None,
        drawing: Drawing = NOT_DRAWN,
    ):
        """Wrap an environment.

        Args:
            environment: of this library.
            num_envs: robots.
            reward: kind of reward; None takes `sparse` where the task tells success.
            render_mode: `rgb_array` or None.
            drawing: how one of them is drawn.

        Raises:
            ConfigurationError: if there is no such reward or render mode.
        """
        self.functions = GoalFunctions(environment, reward)
        drawing = dataclasses.replace(drawing, modes=tuple(mode for mode in drawing.modes if mode != "human"))
        drawing.check(environment, render_mode)  # a window shows one robot
        self.num_envs, self.render_mode, self.drawing = num_envs, render_mode, drawing
        self.metadata = self.functions.metadata(drawing.modes) | {
            "autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP
        }
        self.single_observation_space = self.functions.observation_space()
        self.single_action_space = self.functions.action_space()
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)
        self._reset = jax.jit(lambda key: environment.reset(key, num_envs))
        self._step = jax.jit(self._advance)
        self._leaves: list[Array] | None = None

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode of every robot.

        Args:
            seed: one number, or several that together are one seed; None goes on with the one before.
            options: not used.
        """
        if seed is not None:
            self._np_random = np.random.default_rng(seed)
        state = self._reset(jax.random.key(int(self.np_random.integers(2**31))))
        self._leaves, self._tree = jax.tree.flatten(state)
        return _copied({name: getattr(state, name) for name in SEEN}), {}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take a step of every robot.

        Raises:
            gymnasium.error.ResetNeeded: before the first `reset`.
        """
        if self._leaves is None:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        self._leaves, seen, last, *flags, reward = self._step(self._leaves, self.functions.action(actions))
        success, failed, truncated = (np.array(one) for one in flags)
        done = failed | truncated
        info: dict[str, Any] = {SUCCESS: success, f"_{SUCCESS}": ~done}
        if done.any():
            last = _copied(last)
            info["final_obs"] = np.full(self.num_envs, None, object)
            for robot in np.flatnonzero(done):
                info["final_obs"][robot] = {name: values[robot] for name, values in last.items()}
            flags = {SUCCESS: success, FAILED: failed, TRUNCATED: truncated}
            info["final_info"] = flags | {f"_{name}": done for name in flags}
            info["_final_obs"] = info["_final_info"] = done
        return _copied(seen), np.array(reward, np.float64), failed, truncated, info

    def _advance(self, leaves: list[Array], action: Array) -> tuple[Any, ...]:
        """Take a step. The state comes and goes as its arrays alone: to take it apart costs a small robot as much as
        the step.
        """
        state, result, reward = self.functions.step(jax.tree.unflatten(self._tree, leaves), action)
        seen, last = ({name: getattr(one, name) for name in SEEN} for one in (state, result))
        return jax.tree.leaves(state), seen, last, result.success, result.terminated, result.truncated, reward

    def render(self) -> tuple[Any, ...] | None:
        """Return a picture of each robot, with `rgb_array`."""
        if self.render_mode is None or self._leaves is None:
            return None
        state = jax.tree.unflatten(self._tree, self._leaves)
        reached = self.functions.at_goal(state.achieved_goal, state.desired_goal)
        return tuple(
            self.draw(
                jax.tree.map(lambda leaf, robot=robot: leaf[robot : robot + 1], state.physics),
                np.asarray(state.desired_goal[robot]),
                bool(reached[robot]),
            )
            for robot in range(self.num_envs)
        )

    def close_extras(self, **kwargs: Any) -> None:
        """Free what drawing needs."""
        self.close_painter()


def _copied(seen: dict[str, Array]) -> dict[str, np.ndarray]:
    return {name: np.array(values) for name, values in seen.items()}
