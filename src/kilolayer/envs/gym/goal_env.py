"""An environment of this library as one of Gymnasium, with goals. Imported only where Gymnasium is installed."""

from typing import Any

import gymnasium
import jax
import numpy as np

from kilolayer.envs.environment import Environment, EnvironmentState
from kilolayer.envs.gym.goals import FAILED, NOT_DRAWN, SUCCESS, TRUNCATED, Drawing, GoalFunctions, GoalMethods, Reward


class GoalEnv(GoalMethods, gymnasium.Env):
    """One robot. `reset` begins an episode with a start and a goal of its own; the same seed gives the same ones."""

    def __init__(
        self,
        environment: Environment,
        *,
        reward: Reward | None = None,
        render_mode: str | None = None,
        drawing: Drawing = NOT_DRAWN,
    ):
        """Wrap an environment.

        Args:
            environment: of this library.
            reward: kind of reward; None takes `sparse` where the task tells success.
            render_mode: `rgb_array`, `human` or None.
            drawing: how it is drawn.

        Raises:
            ConfigurationError: if there is no such reward or render mode.
        """
        self.functions = GoalFunctions(environment, reward)
        drawing.check(environment, render_mode)
        self.render_mode, self.drawing = render_mode, drawing
        self.metadata = self.functions.metadata(drawing.modes)
        self.observation_space = self.functions.observation_space()
        self.action_space = self.functions.action_space()
        self._reset = jax.jit(lambda key: environment.reset(key, 1))
        self._state: EnvironmentState | None = None
        self._drawn: tuple[Any, Any, bool] | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: of this episode and all that follow; None goes on with the one before.
            options: not used.
        """
        super().reset(seed=seed, options=options)
        state = self._reset(jax.random.key(int(self.np_random.integers(2**31))))
        self._state = state
        success = bool(self.functions.at_goal(state.achieved_goal, state.desired_goal)[0])
        self._seen(state, state.desired_goal[0], success)
        return _shown(state), {SUCCESS: success, FAILED: False, TRUNCATED: False}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take a step.

        Raises:
            gymnasium.error.ResetNeeded: before the first `reset`.
        """
        if self._state is None:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        before = self._state
        self._state, result, reward = self.functions.step(before, self.functions.action(action))
        success, failed, truncated = (bool(x[0]) for x in (result.success, result.terminated, result.truncated))
        # With the step that ends an episode, the next one has begun: the last pose that can be drawn is the one before.
        self._seen(before if failed or truncated else self._state, result.desired_goal[0], success)
        info = {SUCCESS: success, FAILED: failed, TRUNCATED: truncated}
        return _shown(result), float(reward[0]), failed, truncated, info

    def render(self) -> Any:
        """Return the picture of the robot, with `rgb_array`.

        Raises:
            gymnasium.error.ResetNeeded: before the first `reset`.
        """
        if self.render_mode is None:
            gymnasium.logger.warn("render draws nothing without a render_mode, such as 'rgb_array'")
            return None
        if self._drawn is None:
            raise gymnasium.error.ResetNeeded("call reset before the first picture")
        return self.draw(*self._drawn)

    def close(self) -> None:
        """Free what drawing needs."""
        self.close_painter()

    def _seen(self, state: EnvironmentState, desired_goal: Any, success: bool) -> None:
        self._drawn = (state.physics, np.asarray(desired_goal), success)
        if self.render_mode == "human":
            self.draw(*self._drawn)


def _shown(seen: Any) -> dict[str, np.ndarray]:
    """Return observation and goals of the only robot."""
    return {name: np.array(getattr(seen, name)[0]) for name in ("observation", "achieved_goal", "desired_goal")}
