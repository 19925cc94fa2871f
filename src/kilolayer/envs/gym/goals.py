"""What Gymnasium asks of an environment with goals: spaces, and reward and end of any pair of goals.

Imported only where Gymnasium is installed.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, get_args

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from kilolayer.envs.divergence import LARGEST
from kilolayer.envs.environment import Environment, EnvironmentState, StepResult
from kilolayer.errors import ConfigurationError

Reward = Literal["sparse", "dense"]
"""`sparse`: 0 at the goal, -1 elsewhere. `dense`: the task's own, as a rule minus the distance."""

FAILED, TRUNCATED, SUCCESS = "failed", "truncated", "is_success"
"""Entries of `info`: the episode ended as a failure, at its last step, or this step is at the goal."""

FPS = 20
"""Pictures of a second where the control step is not known."""


class Painter(Protocol):
    """Draws an environment, or shows it in a window."""

    def show(self, physics: Any, desired_goal: np.ndarray, success: bool) -> np.ndarray | None:
        """Draw one robot; return the pixels if there is no window."""
        ...

    def close(self) -> None:
        """Free what drawing needs."""
        ...


@dataclasses.dataclass(frozen=True)
class Drawing:
    """How environments are drawn."""

    modes: tuple[str, ...] = ()
    """Render modes that work on this machine."""
    painter_of: Callable[[Environment, str], Painter] | None = None
    """Makes a painter for an environment and a render mode."""

    def check(self, environment: Environment, mode: str | None) -> None:
        """Check that a render mode works.

        Raises:
            ConfigurationError: naming those that do.
        """
        if mode is not None and mode not in self.modes:
            there_are = ", ".join(map(repr, self.modes)) or "none"
            raise ConfigurationError(
                f"render_mode={mode!r} of {environment.name}: on this machine there are {there_are}"
            )


NOT_DRAWN = Drawing()
"""No render mode."""


class GoalFunctions:
    """Spaces of one environment, and functions of goals that hold for any number of them."""

    def __init__(self, environment: Environment, reward: Reward | None):
        """Prepare the functions.

        Args:
            environment: of this library.
            reward: kind of reward; None takes `sparse` where the task tells success.

        Raises:
            ConfigurationError: if there is no such reward.
        """
        if reward is None:
            reward = "sparse" if environment.has_success else "dense"
        if reward not in get_args(Reward):
            raise ConfigurationError(f"reward={reward!r} must be one of {', '.join(map(repr, get_args(Reward)))}")
        if reward == "sparse" and not environment.has_success:
            raise ConfigurationError(f"reward='sparse': {environment.name} does not tell success; take 'dense'")
        self.environment, self.reward = environment, reward
        self._success = jax.jit(jax.vmap(environment.task.success))
        self._rewards = jax.jit(self._reward)
        self.step = jax.jit(self._step)

    def observation_space(self) -> Any:
        """Return the space of observations and goals. Its bounds are those beyond which a robot counts as diverged."""

        def box(size: int) -> Any:
            return gymnasium.spaces.Box(-np.float32(LARGEST), np.float32(LARGEST), (size,), np.float32)

        one = self.environment
        return gymnasium.spaces.Dict(
            observation=box(one.observation_size), achieved_goal=box(one.goal_size), desired_goal=box(one.goal_size)
        )

    def action_space(self) -> Any:
        """Return the space of actions: numbers from -1 to 1, or one of several choices."""
        size = self.environment.action_size
        if self.environment.discrete_actions:
            return gymnasium.spaces.Discrete(size)
        return gymnasium.spaces.Box(-1.0, 1.0, (size,), np.float32)

    def action(self, given: Any) -> np.ndarray:
        """Return actions of Gymnasium as the environment takes them, one in a row."""
        size = self.environment.action_size
        if self.environment.discrete_actions:
            return 2.0 * np.eye(size, dtype=np.float32)[np.asarray(given, np.int32).reshape(-1)] - 1.0
        return np.asarray(given, np.float32).reshape(-1, size)

    def metadata(self, modes: Sequence[str]) -> dict[str, Any]:
        """Return what Gymnasium knows of an environment, with the render modes that work."""
        step = self.environment.control_step
        return {"render_modes": list(modes), "render_fps": FPS if step is None else round(1.0 / step)}

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any = None) -> Any:
        """Return the reward of a pair of goals, or of each row of many."""
        del info
        achieved, desired = (np.asarray(goal, np.float32) for goal in (achieved_goal, desired_goal))
        rows = (goal.reshape(-1, self.environment.goal_size) for goal in (achieved, desired))
        found = np.asarray(self._rewards(*rows)).astype(np.float64)
        return float(found[0]) if achieved.ndim == 1 else found.reshape(achieved.shape[:-1])

    def at_goal(self, achieved_goal: Any, desired_goal: Any) -> np.ndarray:
        """Return for each row of goals whether it is reached."""
        return np.asarray(self._success(achieved_goal, desired_goal))

    def _step(self, state: EnvironmentState, action: Array) -> tuple[EnvironmentState, StepResult, Array]:
        """Return the next state of all environments, what the step led to, and its rewards: one compiled program."""
        state, result = self.environment.step(state, action)
        return state, result, self._reward(result.achieved_goal, result.desired_goal)

    def _reward(self, achieved_goal: Array, desired_goal: Array) -> Array:
        """Return the reward of each row of goals."""
        task = self.environment.task
        if self.reward == "sparse":
            return jax.vmap(task.success)(achieved_goal, desired_goal) - jnp.float32(1.0)
        return jax.vmap(task.reward)(achieved_goal, desired_goal)


def flag(info: Any, name: str) -> Any:
    """Return a flag of `info`, or of each of many."""
    if isinstance(info, Mapping):
        return info.get(name, False)
    return np.array([bool(one.get(name, False)) for one in info])


class GoalMethods:
    """The methods of Gymnasium's environments with goals, and drawing, for one environment or many."""

    functions: GoalFunctions
    render_mode: str | None
    drawing: Drawing
    _painter: Painter | None = None

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """Return the reward of reaching one goal when another was desired; of many, one in a row, an array."""
        return self.functions.compute_reward(achieved_goal, desired_goal, info)

    def compute_terminated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """Return whether an episode failed: that is no matter of goals, but of the state, which `info` tells."""
        return flag(info, FAILED)

    def compute_truncated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """Return whether an episode reached its last step."""
        return flag(info, TRUNCATED)

    def draw(self, physics: Any, desired_goal: np.ndarray, success: bool) -> np.ndarray | None:
        """Draw one robot."""
        if self._painter is None:
            assert self.drawing.painter_of is not None
            assert self.render_mode is not None
            self._painter = self.drawing.painter_of(self.functions.environment, self.render_mode)
        return self._painter.show(physics, desired_goal, success)

    def close_painter(self) -> None:
        """Free what drawing needs."""
        if self._painter is not None:
            self._painter.close()
            self._painter = None
