"""What a robot is to achieve: which numbers a goal is, how far a state is from it, when it is reached, how it is drawn.

The one rule of success of a task is here: rewards, relabelled rows, evaluations, checks and pictures ask `success` or
`distance_to_goal`.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.envs.drawing import Ghost, Mark
from kilolayer.envs.goals import Goal, PositionGoal, Reachable, reachable
from kilolayer.envs.names import xyz
from kilolayer.envs.robot_state import RobotState
from kilolayer.envs.tracking import Tracking
from kilolayer.errors import ConfigurationError

MARKER_RADIUS = 0.05
"""Radius of a goal's mark in pictures if the task has no success distance, in metres."""

UNREACHED = 1.0
"""Distance to a ready-made goal, in its radii, from which on it is not reached."""


class GoalTask(Tracking):
    """Goals of a task: ready-made ones (`goal`), the position of a body (`goal_body`), or methods of the task's own."""

    goal: Goal | Sequence[Goal] | None = None
    """Ready-made goals, one or several side by side, such as `PositionGoal("palm", radius=0.05)`; all must be reached.
    See `kilolayer.envs.goals`. They have radii of their own, in place of `goal_body` and `success_distance`."""
    success_distance: float | None = 0.1
    """The goal is reached below this distance between achieved and desired goal. None: success is never signalled, and
    agents that are rewarded for success cannot be trained."""
    reachable_goals: int = 1024
    """Poses from which goals are drawn by default, if the task has `goal`."""

    @cached_property
    def goal_parts(self) -> tuple[Goal, ...]:
        """The ready-made goals; empty without `goal`.

        Raises:
            ConfigurationError: if one is no goal, does not fit the model, or stands beside what it replaces.
        """
        if self.goal is None:
            return ()
        several = isinstance(self.goal, Sequence) and not isinstance(self.goal, str)
        parts: tuple[Any, ...] = tuple(self.goal) if several else (self.goal,)  # type: ignore[arg-type]
        name = type(self).__name__
        for part in parts:
            if not isinstance(part, Goal):
                raise ConfigurationError(
                    f'task {name}: goal={part!r} must be a goal, such as PositionGoal("palm", radius=0.05), or several'
                )
        if not parts:
            raise ConfigurationError(f"task {name}: goal is empty; name a goal, or leave it out")
        for attribute in ("goal_body", "success_distance"):
            if getattr(self, attribute) != getattr(GoalTask, attribute):
                raise ConfigurationError(
                    f"task {name}: {attribute}={getattr(self, attribute)!r} has no effect beside goal, which has "
                    "places and radii of its own; leave one of them out"
                )
        for part in parts:
            part.check(self)
        return parts

    @property
    def goal_places(self) -> tuple[str, ...]:
        """Bodies and sites at which the goal is read."""
        places = [*super().goal_places, *(place for part in self.goal_parts for place in part.places)]
        return tuple(dict.fromkeys(places))

    @property
    def draws_goals(self) -> bool:
        """Whether the task defines how goals are drawn."""
        kind: Any = type(self)
        return kind.draw_goal is not GoalTask.draw_goal

    @property
    def has_success(self) -> bool:
        """Whether the task says when a goal is reached."""
        return self.goal is not None or self.success_distance is not None

    @property
    def goal_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of a goal: from `goal` or `goal_body`."""
        if self.goal_parts:
            return tuple(name for part in self.goal_parts for name in part.names(self))
        return None if self.goal_body is None else xyz(self.goal_body)

    @property
    def success_text(self) -> str | None:
        """When a goal is reached, in one line for `envs show` and a policy's contract."""
        if self.goal_parts:
            return "; ".join(part.text(self) for part in self.goal_parts)
        if self.success_distance is None:
            return "never signalled"
        return f"achieved and desired goal are less than {self.success_distance:g} apart"

    @property
    def success_length(self) -> float | None:
        """Length of the difference of both goals below which it is reached; None if the rule is another one."""
        if not self.goal_parts:
            return self.success_distance
        part = self.goal_parts[0]
        alone = len(self.goal_parts) == 1 and isinstance(part, PositionGoal) and len(part.places) == 1
        return part.radius if alone and isinstance(part, PositionGoal) else None

    def _split(self, goal: Any) -> list[Any]:
        """Return the entries of each ready-made goal."""
        ends = np.cumsum([len(part.names(self)) for part in self.goal_parts])
        return [goal[end - len(part.names(self)) : end] for part, end in zip(self.goal_parts, ends, strict=True)]

    def achieved_goal(self, state: RobotState) -> Float[Array, " goal"]:
        """Return the goal that this state achieves: by default as `goal`, or the position of `goal_body`."""
        if self.goal_parts:
            return jnp.concatenate([part.read(self, state) for part in self.goal_parts])
        if self.goal_body is None:
            raise ConfigurationError(
                f"task {type(self).__name__} has no achieved goal; set `goal` or `goal_body`, or define `achieved_goal`"
            )
        return self.position_of(state, self.goal_body)

    def current_goal(self, state: RobotState, desired_goal: Float[Array, " goal"]) -> Float[Array, " goal"]:
        """Return the desired goal after this step. Override it for a goal that moves."""
        del state
        return desired_goal

    def distance_to_goal(
        self, achieved_goal: Float[Array, " goal"], desired_goal: Float[Array, " goal"]
    ) -> Float[Array, ""]:
        """Return how far apart two goals are: by default the length of their difference.

        With `goal` it is the largest error as a share of its radius, so that 1 is where success ends.
        """
        if not self.goal_parts:
            return jnp.linalg.norm(achieved_goal - desired_goal)
        wanted = self._split(desired_goal)
        pairs = zip(self._parts_of(achieved_goal), wanted, strict=True)
        return jnp.max(jnp.concatenate([part.errors(self, achieved, goal) for (part, achieved), goal in pairs]))

    def success(self, achieved_goal: Float[Array, " goal"], desired_goal: Float[Array, " goal"]) -> Bool[Array, ""]:
        """Return whether the goal is reached: by default below `success_distance`, or within all radii of `goal`."""
        if self.goal_parts:
            return self.distance_to_goal(achieved_goal, desired_goal) < UNREACHED
        if self.success_distance is None:
            return jnp.zeros((), bool)
        return self.distance_to_goal(achieved_goal, desired_goal) < self.success_distance

    def reward(self, achieved_goal: Float[Array, " goal"], desired_goal: Float[Array, " goal"]) -> Float[Array, ""]:
        """Return the negative distance to the goal."""
        return -self.distance_to_goal(achieved_goal, desired_goal)

    @cached_property
    def reachable(self) -> Reachable:
        """Goals that the robot can reach, with poses that reach them, from which `draw_goal` draws by default."""
        return reachable(self, self.reachable_goals)

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, " goal"]:
        """Draw the goal of an episode: by default, with `goal`, one that the robot can reach."""
        parts = self.goal_parts
        if not parts:
            raise ConfigurationError(
                f"task {type(self).__name__} does not draw goals; define `draw_goal`, or set `goal`"
            )
        pose_key, *keys = jax.random.split(key, 1 + len(parts))
        drawn = [part.draw(self, key) for part, key in zip(parts, keys, strict=True)]
        posed: list[Any] = drawn
        if any(entries is None for entries in drawn):
            number = jax.random.randint(pose_key, (), 0, self.reachable_goals)
            posed = self._split(jnp.asarray(self.reachable.goal)[number])
        return jnp.concatenate([own if own is not None else pose for own, pose in zip(drawn, posed, strict=True)])

    def marker(self, desired_goal: Float[np.ndarray, " goal"]) -> Mark | None:
        """Return position and radius, in metres, of the mark that shows a goal in pictures; None for no mark.

        By default that of the first ready-made goal that has a place. Without these the first three entries of a goal
        are x, y, z; missing ones are 0.
        """
        if self.goal_parts:
            marks = (part.mark(self, entries) for part, entries in self._parts_of(desired_goal))
            return next((mark for mark in marks if mark is not None), None)
        position = np.zeros(3, np.float32)
        position[: min(3, len(desired_goal))] = desired_goal[:3]
        return position, self.success_distance or MARKER_RADIUS

    def ghost(self, desired_goal: Float[np.ndarray, " goal"]) -> Ghost | None:
        """Return the robot as the goal has it, which pictures draw see-through; None for no ghost.

        By default that of the first ready-made goal of joints or poses.
        """
        ghosts = (part.ghost(self, entries) for part, entries in self._parts_of(desired_goal))
        return next((ghost for ghost in ghosts if ghost is not None), None)

    def _parts_of(self, goal: Any) -> list[tuple[Goal, Any]]:
        return list(zip(self.goal_parts, self._split(goal), strict=True))
