"""The pusher: an arm that pushes a cylinder over a table to a place."""

from pathlib import Path
from typing import Final

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs.robot_task import RobotState, RobotTask, Start, check_variant, rotate
from kilolayer.errors import ConfigurationError

KINDS: Final = ("easy", "hard")

ORIGIN: Final = np.array([0.45, -0.05], np.float32)
"""Metres: x, y of the object where its slides are at zero. Objects and goals are drawn around it."""
OBJECT_HEIGHT: Final = -0.275
"""Metres: z of the object."""
GOAL_BODY_HEIGHT: Final = -0.323
"""Metres: z of the body that stands for the goal in the reference code."""
FORK: Final = (0.1, 0.0, 0.0)
"""Metres: the middle between the two tips of the fork, in the frame of the last link."""

OBJECT_LOW: Final = np.array([-0.2, -0.3], np.float32)
"""Metres from `ORIGIN`: least x and y of the object at the start."""
OBJECT_HIGH: Final = np.array([0.2, 0.0], np.float32)
"""Metres from `ORIGIN`: greatest x and y of the object at the start."""
GOALS: Final = {
    "easy": (np.array([-0.2, -0.55], np.float32), np.array([0.2, -0.25], np.float32)),
    "hard": (np.array([-0.55, -0.65], np.float32), np.array([0.45, 0.35], np.float32)),
}
"""Metres from `ORIGIN`: least and greatest x and y of the goal. Hard goals lie on all sides of the object."""
CANDIDATES: Final = 16
"""Places drawn for the object, of which the first that is far enough from the goal is taken."""


class Pusher(RobotTask):
    """Push the object within 10 cm (easy) or 5 cm (hard) of a place on the table.

    The observation (20) is the arm's 7 joint angles (radians), x, y, z of the fork at its end, x, y, z of the object
    (metres), and the 7 joint velocities (radians per second). The goal is x, y, z of the object. The action (7) is the
    torque of each joint, in parts of the greatest. An episode begins with the arm straight along +x and nearly at rest;
    object and goal are drawn evenly from a rectangle each, at least 0.17 m apart. Nothing ends it but its time.

    Source: the reference code's `pusher_easy` and `pusher_hard`, their model after Brax. The variants differ in this:

    | | `default` | `paper` |
    |---|---|---|
    | engine | MuJoCo, 5 steps of 0.01 s | Brax's spring, 50 steps of 0.001 s |
    | greatest torque | 2 N m | 20 N m |
    | part of the control range that actions use | all | half |
    | fork in the observation | the middle between its tips | the wrist, 0.1 m behind it |
    | height of the goal | the object's | 0.048 m below it, which the distance counts |
    | object and goal at the start | at least 0.17 m apart | may be nearer, if the object was drawn near the goal |

    The reference code tells success by the state before a step; here both variants go by the state after it.

    Args:
        kind: `"easy"`: goals nearer to the arm, and the greater distance for success; or `"hard"`.
        variant: `"default"`, or `"paper"` for the physics and the quirks of the reference code.

    Raises:
        ConfigurationError: for another kind or variant.
    """

    mjcf = str(Path(__file__).parents[1] / "robots" / "pusher.xml")
    control_step = 0.05
    bodies = ("r_wrist_flex_link", "r_wrist_roll_link", "object")
    goal_body = "object"

    separation = 0.17
    """Metres: least distance of object and goal at the start."""
    start_speed = 0.005
    """Radians per second: half the range of each joint's velocity at the start."""

    def __init__(self, kind: str = "easy", variant: str = "default") -> None:
        if kind not in KINDS:
            raise ConfigurationError(f"kind={kind!r} must be one of {', '.join(map(repr, KINDS))}")
        check_variant(variant)
        self.kind = kind
        self.variant = variant
        self.success_distance = 0.1 if kind == "easy" else 0.05
        self.engines = ("spring", "mujoco", "mjx") if self.paper else ("mujoco", "mjx")

    def build(self) -> mujoco.MjSpec:
        """Return arm, table and object."""
        spec = super().build()
        if self.paper:
            spec.option.timestep = 0.001
            for actuator in spec.actuators:
                actuator.gear[0] = 20.0
        return spec

    def control(self, action: Float[Array, "7"]) -> Float[Array, "7"]:
        """Turn an action into controls: onto their range of -2 to 2; in the paper's variant unchanged."""
        return action if self.paper else super().control(action)

    def reset(self, key: PRNGKeyArray) -> tuple[Start, Float[Array, "3"]]:
        """Draw where the object is and where it should be."""
        goal_key, object_key, velocity_key = jax.random.split(key, 3)
        place = self._draw_place(goal_key)
        obj = self._nearby(object_key, place) if self.paper else self._apart(object_key, place)
        velocity = jax.random.uniform(velocity_key, (7,), minval=-self.start_speed, maxval=self.start_speed)
        start = Start(
            # The object's slides: first along y, then along x.
            qpos=jnp.concatenate([jnp.zeros(7), obj[::-1]]),
            qvel=jnp.concatenate([velocity, jnp.zeros(2)]),
        )
        return start, self._goal(place)

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw a start, for any goal."""
        return self.reset(key)[0]

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "3"]:
        """Draw a goal, for any start."""
        return self._goal(self._draw_place(key))

    def observe(self, state: RobotState) -> Float[Array, "20"]:
        """Return joint angles, the fork, the object, and joint velocities."""
        return jnp.concatenate([state.qpos[:7], self._fork(state), self.achieved_goal(state), state.qvel[:7]])

    def _fork(self, state: RobotState) -> Float[Array, "3"]:
        if self.paper:
            # The centre of mass of this link is the origin of its frame.
            return state.position[self.body("r_wrist_flex_link")]
        roll = self.body("r_wrist_roll_link")
        return state.position[roll] + rotate(state.quaternion[roll], jnp.asarray(FORK))

    def _goal(self, place: Float[Array, "2"]) -> Float[Array, "3"]:
        return jnp.append(ORIGIN + place, GOAL_BODY_HEIGHT if self.paper else OBJECT_HEIGHT)

    def _draw_place(self, key: PRNGKeyArray) -> Float[Array, "2"]:
        """Draw a goal's x, y from `ORIGIN`."""
        low, high = GOALS[self.kind]
        return jax.random.uniform(key, (2,), minval=low, maxval=high)

    def _apart(self, key: PRNGKeyArray, place: Float[Array, "2"]) -> Float[Array, "2"]:
        """Draw an object's x, y from `ORIGIN`, evenly from where it is far enough from the goal."""
        drawn = jax.random.uniform(key, (CANDIDATES, 2), minval=OBJECT_LOW, maxval=OBJECT_HIGH)
        # If none will do: the corner that is farthest from the goal always does, for the rectangle is wide enough.
        middle = 0.5 * (OBJECT_LOW + OBJECT_HIGH)
        corner = jnp.where(place < middle, OBJECT_HIGH, OBJECT_LOW)
        candidates = jnp.concatenate([drawn, corner[None]])
        apart = jnp.linalg.norm(candidates - place, axis=-1) >= self.separation
        return candidates[jnp.argmax(apart)]

    def _nearby(self, key: PRNGKeyArray, place: Float[Array, "2"]) -> Float[Array, "2"]:
        """Draw an object's x, y from `ORIGIN` as the reference code does.

        Near the goal, it is moved away from `ORIGIN` in proportion, which need not be away from the goal.
        """
        drawn = jax.random.uniform(key, (2,), minval=OBJECT_LOW, maxval=OBJECT_HIGH)
        distance = jnp.linalg.norm(drawn - place)
        return jnp.where(distance < self.separation, drawn * self.separation / jnp.maximum(distance, 1e-6), drawn)
