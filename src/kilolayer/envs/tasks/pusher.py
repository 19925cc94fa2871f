"""The pusher: an arm that pushes a cylinder to a point on a table."""

from typing import Final

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs.names import actuator_names, position_names, velocity_names, xyz
from kilolayer.envs.quaternions import rotate
from kilolayer.envs.robot_task import RobotState, RobotTask, Start, check_variant
from kilolayer.envs.robots.mjcf import model_file
from kilolayer.errors import ConfigurationError

KINDS: Final = ("easy", "hard")

ORIGIN: Final = np.array([0.45, -0.05], np.float32)
"""Position x, y of the object at which its slide joints are zero, in metres. Starts and goals are relative to it."""
OBJECT_HEIGHT: Final = -0.275
"""Height z of the object, in metres."""
GOAL_BODY_HEIGHT: Final = -0.323
"""Height z of the goal's body in the reference code, in metres."""
FORK: Final = (0.1, 0.0, 0.0)
"""Middle between the two tips of the fork in the frame of the last link, in metres."""

OBJECT_LOW: Final = np.array([-0.2, -0.3], np.float32)
"""Smallest x and y of the object at the start, relative to `ORIGIN`, in metres."""
OBJECT_HIGH: Final = np.array([0.2, 0.0], np.float32)
"""Largest x and y of the object at the start, relative to `ORIGIN`, in metres."""
GOALS: Final = {
    "easy": (np.array([-0.2, -0.55], np.float32), np.array([0.2, -0.25], np.float32)),
    "hard": (np.array([-0.55, -0.65], np.float32), np.array([0.45, 0.35], np.float32)),
}
"""Smallest and largest x and y of the goal, relative to `ORIGIN`, in metres. Hard ones surround the object."""
CANDIDATES: Final = 16
"""Positions drawn for the object; the first one that is far enough from the goal is used."""


class Pusher(RobotTask):
    """Push the object to within 10 cm (easy) or 5 cm (hard) of a point on the table.

    The observation (20) is the arm's 7 joint angles (radians), x, y, z of the fork at its end and of the object
    (metres), and the 7 joint velocities (radians per second). The goal is x, y, z of the object. The action (7) is the
    torque of each joint, as a fraction of the maximum. An episode begins with the arm straight along +x and almost at
    rest. Object and goal are drawn uniformly from a rectangle each, at least 0.17 m apart. Episodes end only by
    truncation.

    Source: `pusher_easy` and `pusher_hard` of the paper's code; their model is Brax's. The variants differ as follows:

    | | `default` | `paper` |
    |---|---|---|
    | engine | MuJoCo, 5 steps of 0.01 s | Brax's spring, 50 steps of 0.001 s |
    | maximum torque | 2 N m | 20 N m |
    | fraction of the control range that actions use | all | half |
    | fork in the observation | the middle between its tips | the wrist, 0.1 m behind it |
    | height of the goal | that of the object | 0.048 m below it, which counts in the distance |
    | object and goal at the start | at least 0.17 m apart | may be nearer, if the object was drawn near the goal |

    The reference code evaluates success before a step; here both variants evaluate it after the step.

    Args:
        kind: `"easy"` has goals nearer to the arm and the larger success distance; or `"hard"`.
        variant: `"default"`, or `"paper"` for the physics and the peculiarities of the reference code.

    Raises:
        ConfigurationError: if there is no such kind or variant.
    """

    mjcf = model_file("pusher")
    control_step = 0.05
    bodies = ("r_wrist_flex_link", "r_wrist_roll_link", "object")
    goal_body = "object"

    separation = 0.17
    """Smallest distance of object and goal at the start, in metres."""
    start_speed = 0.005
    """Half the range of each joint velocity at the start, in radians per second."""

    def __init__(self, kind: str = "easy", variant: str = "default") -> None:
        if kind not in KINDS:
            raise ConfigurationError(f"kind={kind!r} must be one of {', '.join(map(repr, KINDS))}")
        check_variant(variant)
        self.kind = kind
        self.variant = variant
        self.success_distance = 0.1 if kind == "easy" else 0.05
        self.engines = ("spring", "mujoco", "mjx") if self.paper else ("mujoco", "mjx")

    def build(self) -> mujoco.MjSpec:
        """Return the model: arm, table and object."""
        spec = super().build()
        if self.paper:
            spec.option.timestep = 0.001
            for actuator in spec.actuators:
                actuator.gear[0] = 20.0
        return spec

    @property
    def action_names(self) -> tuple[str, ...] | None:
        """Name, range and unit of each entry of an action."""
        return actuator_names(self.model, np.array([[-1.0, 1.0]] * 7) if self.paper else None)

    def control(self, action: Float[Array, "7"]) -> Float[Array, "7"]:
        """Map an action to controls: to their range of -2 to 2, or unchanged in the paper's variant."""
        return action if self.paper else super().control(action)

    def reset(self, key: PRNGKeyArray) -> tuple[Start, Float[Array, "3"]]:
        """Draw the start of the object, its goal, and joint velocities."""
        goal_key, object_key, velocity_key = jax.random.split(key, 3)
        place = self._draw_place(goal_key)
        obj = self._nearby(object_key, place) if self.paper else self._apart(object_key, place)
        velocity = jax.random.uniform(velocity_key, (7,), minval=-self.start_speed, maxval=self.start_speed)
        start = Start(
            # The object slides along y first, then along x.
            qpos=jnp.concatenate([jnp.zeros(7), obj[::-1]]),
            qvel=jnp.concatenate([velocity, jnp.zeros(2)]),
        )
        return start, self._goal(place)

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw a start without regard to a goal."""
        return self.reset(key)[0]

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "3"]:
        """Draw a goal without regard to a start."""
        return self._goal(self._draw_place(key))

    @property
    def observation_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of an observation."""
        angles, velocities = position_names(self.model)[:7], velocity_names(self.model)[:7]
        return (*angles, *xyz("wrist" if self.paper else "fork"), *xyz("object"), *velocities)

    def observe(self, state: RobotState) -> Float[Array, "20"]:
        """Return joint angles, fork, object, and joint velocities."""
        return jnp.concatenate([state.qpos[:7], self._fork(state), self.achieved_goal(state), state.qvel[:7]])

    def _fork(self, state: RobotState) -> Float[Array, "3"]:
        if self.paper:
            # The reference code reads the centre of mass of this link, which is the origin of its frame.
            return state.position[self.body("r_wrist_flex_link")]
        return fork_of(state, self.body("r_wrist_roll_link"))

    def _goal(self, place: Float[Array, "2"]) -> Float[Array, "3"]:
        return jnp.append(ORIGIN + place, GOAL_BODY_HEIGHT if self.paper else OBJECT_HEIGHT)

    def _draw_place(self, key: PRNGKeyArray) -> Float[Array, "2"]:
        """Draw x, y of a goal, relative to `ORIGIN`."""
        low, high = GOALS[self.kind]
        return jax.random.uniform(key, (2,), minval=low, maxval=high)

    def _apart(self, key: PRNGKeyArray, place: Float[Array, "2"]) -> Float[Array, "2"]:
        """Draw x, y of an object, relative to `ORIGIN`, uniformly where it is far enough from the goal."""
        drawn = jax.random.uniform(key, (CANDIDATES, 2), minval=OBJECT_LOW, maxval=OBJECT_HIGH)
        # Fallback: the corner farthest from the goal. The rectangle is wide enough that it is always far enough.
        middle = 0.5 * (OBJECT_LOW + OBJECT_HIGH)
        corner = jnp.where(place < middle, OBJECT_HIGH, OBJECT_LOW)
        candidates = jnp.concatenate([drawn, corner[None]])
        apart = jnp.linalg.norm(candidates - place, axis=-1) >= self.separation
        return candidates[jnp.argmax(apart)]

    def _nearby(self, key: PRNGKeyArray, place: Float[Array, "2"]) -> Float[Array, "2"]:
        """Draw x, y of an object, relative to `ORIGIN`, as the reference code does.

        An object near the goal is moved away from `ORIGIN`, which is not always away from the goal.
        """
        drawn = jax.random.uniform(key, (2,), minval=OBJECT_LOW, maxval=OBJECT_HIGH)
        distance = jnp.linalg.norm(drawn - place)
        return jnp.where(distance < self.separation, drawn * self.separation / jnp.maximum(distance, 1e-6), drawn)


class PusherReacher(RobotTask):
    """Move the fork of the pusher's arm to within 5 cm of a point of the air.

    The observation (17) is the arm's 7 joint angles (radians), x, y, z of the fork (metres), and the 7 joint velocities
    (radians per second). The goal is x, y, z of the fork, drawn from a box in front of the arm. The action (7) is the
    torque of each joint, as a fraction of the maximum, 2 N m. An episode begins with the arm straight along +x and
    almost at rest. There is no object, and no gravity. Episodes end only by truncation. 5 steps of 0.01 s.
    """

    mjcf = model_file("pusher")
    control_step = 0.05
    bodies = ("r_wrist_roll_link",)
    success_distance = 0.05
    engines = ("mujoco", "mjx")

    goal_low = (0.3, -0.8, -0.25)
    """Least x, y, z of goals, in metres."""
    goal_high = (0.7, -0.1, 0.1)
    """Greatest x, y, z of goals, in metres."""
    start_speed = 0.005
    """Half the range of each joint velocity at the start, in radians per second."""

    def build(self) -> mujoco.MjSpec:
        """Return the model: arm and table."""
        spec = super().build()
        spec.delete(spec.body("object"))
        return spec

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw joint velocities."""
        velocity = jax.random.uniform(key, (7,), minval=-self.start_speed, maxval=self.start_speed)
        return Start(qpos=jnp.zeros(7), qvel=velocity)

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "3"]:
        """Draw a point of the box."""
        return jax.random.uniform(key, (3,), minval=jnp.array(self.goal_low), maxval=jnp.array(self.goal_high))

    @property
    def observation_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of an observation."""
        return (*position_names(self.model), *xyz("fork"), *velocity_names(self.model))

    goal_names = xyz("fork")

    def observe(self, state: RobotState) -> Float[Array, "17"]:
        """Return joint angles, fork, and joint velocities."""
        return jnp.concatenate([state.qpos, self.achieved_goal(state), state.qvel])

    def achieved_goal(self, state: RobotState) -> Float[Array, "3"]:
        """Return x, y, z of the middle between the tips of the fork, in metres."""
        return fork_of(state, self.body("r_wrist_roll_link"))


def fork_of(state: RobotState, link: int) -> Float[Array, "3"]:
    """Return the middle between the tips of the fork, in metres.

    Args:
        state: of the robot.
        link: index of the last link among the tracked bodies.
    """
    return state.position[link] + rotate(state.quaternion[link], jnp.asarray(FORK))
