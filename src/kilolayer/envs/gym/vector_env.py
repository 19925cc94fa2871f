"""A batch of environments of this library as a vector environment of Gymnasium. Needs Gymnasium when imported."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
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
        sizes = (environment.observation_size, environment.goal_size, environment.goal_size)
        ends = itertools.accumulate((0, *sizes, *sizes))
        columns = [slice(begin, end) for begin, end in itertools.pairwise(ends)]
        self._seen, self._last = (dict(zip(SEEN, three, strict=True)) for three in (columns[:3], columns[3:]))

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
        return {name: np.array(getattr(state, name)) for name in SEEN}, {}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take a step of every robot.

        Raises:
            gymnasium.error.ResetNeeded: before the first `reset`.
        """
        if self._leaves is None:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        self._leaves, told = self._step(self._leaves, self.functions.action(actions))
        rows = np.array(told)
        seen, last = ({name: rows[:, columns] for name, columns in one.items()} for one in (self._seen, self._last))
        reward, *flags = rows[:, -4:].T
        success, failed, truncated = (flag > 0.0 for flag in flags)
        done = failed | truncated
        info: dict[str, Any] = {SUCCESS: success, f"_{SUCCESS}": ~done}
        if done.any():
            info["final_obs"] = np.full(self.num_envs, None, object)
            ended = zip(*(values[done] for values in last.values()), strict=True)
            info["final_obs"][done] = [dict(zip(SEEN, one, strict=True)) for one in ended]
            ends = {SUCCESS: success, FAILED: failed, TRUNCATED: truncated}
            info["final_info"] = ends | {f"_{name}": done for name in ends}
            info["_final_obs"] = info["_final_info"] = done
        return seen, reward.astype(np.float64), failed, truncated, info

    def _advance(self, leaves: list[Array], action: Array) -> tuple[list[Array], Array]:
        """Take a step. The state comes and goes as its arrays alone, and all that a client sees leaves as one array
        with a row for each robot: to take the state apart, or to copy one array after another to the host, costs time
        that shows where a step of the physics is short.
        """
        state, result, reward = self.functions.step(jax.tree.unflatten(self._tree, leaves), action)
        columns = [getattr(one, name) for one in (state, result) for name in SEEN]
        numbers = (reward, result.success, result.terminated, result.truncated)
        return jax.tree.leaves(state), jnp.concatenate([*columns, jnp.stack(numbers, axis=1)], axis=1)

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
