"""Goals of velocity: run at it."""

from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs.goals.part import Goal, check_axes, check_radius
from kilolayer.envs.names import xyz
from kilolayer.envs.quaternions import rotate_back
from kilolayer.envs.robot_state import RobotState
from kilolayer.envs.tracking import Tracking
from kilolayer.errors import ConfigurationError

Frame = Literal["world", "own"]


class VelocityGoal(Goal):
    """How fast a body or site moves. Reached when the difference is below `radius`.

    Goals are uniform between `low` and `high`. Without these the task draws goals itself (`draw_goal`).
    """

    def __init__(
        self,
        place: str,
        *,
        radius: float,
        axes: str = "xy",
        frame: Frame = "world",
        low: float | Sequence[float] | None = None,
        high: float | Sequence[float] | None = None,
    ):
        """Create a goal.

        Args:
            place: name of a body or site.
            radius: metres per second.
            axes: which components count.
            frame: axes of the `world`, or the place's `own`, so that x is ahead wherever it faces.
            low: least velocity, one for all axes or one for each, in metres per second.
            high: greatest velocity.

        Raises:
            ConfigurationError: naming the argument, its value and what would be valid.
        """
        self.place = place
        self.radius = check_radius(self, "radius", radius, "metres per second")
        self.axes = check_axes(self, axes)
        if frame not in get_args(Frame):
            raise ConfigurationError(f"VelocityGoal: frame={frame!r} must be one of {', '.join(get_args(Frame))}")
        self.frame = frame
        self.low, self.high = (self._ends(name, value) for name, value in (("low", low), ("high", high)))
        if (self.low is None) != (self.high is None):
            raise ConfigurationError(f"VelocityGoal: low={low!r} and high={high!r} go together; give both or none")
        if self.low is not None and self.high is not None and not np.all(self.low <= self.high):
            raise ConfigurationError(f"VelocityGoal: low={low!r} must not be above high={high!r}")

    def _ends(self, name: str, value: float | Sequence[float] | None) -> Float[np.ndarray, " axes"] | None:
        if value is None:
            return None
        ends = np.asarray(value, np.float32)
        if ends.shape not in ((), (len(self.axes),)) or not np.isfinite(ends).all():
            raise ConfigurationError(f"VelocityGoal: {name}={value!r} must be a number, or one for each of {self.axes}")
        return np.broadcast_to(ends, (len(self.axes),))

    @property
    def places(self) -> tuple[str, ...]:
        """Names of the bodies and sites that are read."""
        return (self.place,)

    def check(self, task: Tracking) -> None:
        """Check that somebody draws the velocities.

        Raises:
            ConfigurationError: if there are no ends, and the task draws no goals.
        """
        if self.low is None and not getattr(task, "draws_goals", True):
            raise ConfigurationError(
                f"task {type(task).__name__}: VelocityGoal needs low= and high=, the velocities that goals are drawn "
                "from; or define `draw_goal`"
            )

    def names(self, task: Tracking) -> tuple[str, ...]:
        """Return the name of each entry, with its unit."""
        del task
        own = "" if self.frame == "world" else " own"
        return xyz(f"{self.place} velocity{own}", "m/s", self.axes)

    def read(self, task: Tracking, state: RobotState) -> Float[Array, " axes"]:
        """Return the velocity, in metres per second."""
        velocity = task.velocity_of(state, self.place)
        if self.frame == "own":
            velocity = rotate_back(task.quaternion_of(state, self.place), velocity)
        return velocity[np.array(["xyz".index(axis) for axis in self.axes])]

    def errors(
        self, task: Tracking, achieved: Float[Array, " axes"], desired: Float[Array, " axes"]
    ) -> Float[Array, "1"]:
        """Return the difference as a share of the radius."""
        del task
        return jnp.linalg.norm(achieved - desired, keepdims=True) / self.radius

    def draw(self, task: Tracking, key: PRNGKeyArray) -> Float[Array, " axes"] | None:
        """Draw a velocity between both ends."""
        del task
        if self.low is None or self.high is None:
            return None
        return jax.random.uniform(key, (len(self.axes),), minval=self.low, maxval=self.high)

    def text(self, task: Tracking) -> str:
        """Return when it is reached, in words."""
        del task
        frame = "world" if self.frame == "world" else "its own"
        return f"velocity of {self.place} along {frame} {', '.join(self.axes)} within {self.radius:g} m/s"
