"""Panda arm with a cube: push it, carry it from bin to bin, or grasp it."""

from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.envs.names import xyz
from kilolayer.envs.robot_task import RobotState, Start
from kilolayer.envs.robots import panda
from kilolayer.envs.robots.table import add_zone
from kilolayer.envs.tasks.arm import ANGLE_NAMES, END_EFFECTOR_NAMES, ArmTask, uniform
from kilolayer.errors import ConfigurationError

LEVELS = ("easy", "hard")


class CubeTask(ArmTask):
    """Base class of the tasks with a cube, which falls onto the table from a height of 4 cm at the start."""

    goal_body: str | None = "cube"
    cube_centre: tuple[float, float] = (0.0, 0.6)
    """Centre x, y of the square from which the cube's start is drawn, in metres."""
    cube_noise: float = 0.0
    """Half the width of that square, in metres."""

    @property
    def cube_qpos(self) -> int:
        """Index of the cube's position in `qpos`."""
        return int(self.model.joint("cube").qposadr[0])

    def cube(self, state: RobotState) -> Float[Array, "3"]:
        """Return the cube's position, in metres."""
        return state.qpos[self.cube_qpos : self.cube_qpos + 3]

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw x and y of the cube. The arm's pose is constant, and everything is at rest."""
        home = super().draw_start(key)
        xy = slice(self.cube_qpos, self.cube_qpos + 2)
        return Start(qpos=home.qpos.at[xy].add(uniform(key, 2, self.cube_noise)), qvel=home.qvel)

    observation_names = (*xyz("cube"), *ANGLE_NAMES, *END_EFFECTOR_NAMES, "distance of the fingers (m)")

    def observe(self, state: RobotState) -> Float[Array, " observation"]:
        """Return cube, joint angles, position and velocity of the end effector, and distance of the fingers."""
        fingers = self.distance(state, "left_finger", "right_finger")
        return jnp.concatenate([self.cube(state), self.arm_angles(state), self.end_effector(state), fingers])


class Places(NamedTuple):
    """Squares from which start and goal of the cube are drawn: centres (x, y) and half edges, in metres."""

    cube: tuple[float, float]
    cube_noise: float
    goal: tuple[float, float]
    goal_noise: float


class MoveCubeTask(CubeTask):
    """Base class: move a cube from one square of the table to a point in another."""

    places: ClassVar[dict[str, Places]]
    """The squares of each level."""

    def __init__(self, level: str = "easy", variant: str = "default"):
        """Create the task.

        Args:
            level: `"easy"` or `"hard"`.
            variant: see `ArmTask`.

        Raises:
            ConfigurationError: if there is no such level or variant.
        """
        super().__init__(variant)
        if level not in LEVELS:
            raise ConfigurationError(f"level={level!r} must be one of {', '.join(map(repr, LEVELS))}")
        self.level = level
        self.cube_centre, self.cube_noise, self.goal_centre, self.goal_noise = self.places[level]

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "3"]:
        """Draw a position of the cube's centre, with the cube on the table."""
        return jnp.array([*self.goal_centre, panda.CUBE_HALF_EDGE]).at[:2].add(uniform(key, 2, self.goal_noise))


class ArmPush(MoveCubeTask):
    """Push a cube to a point on the table.

    The goal is x, y, z of the cube, reached below a distance of 0.1 m. The observation (17) is the position of the
    cube, the seven joint angles, the position and velocity of the end effector, and the distance of the fingers. Start
    and goal of the cube are drawn from squares with these centres and half edges, in metres:

    | level | cube | goal |
    |---|---|---|
    | easy | (-0.1, 0.6), 0.1 | (0.1, 0.6), 0.1 |
    | hard | (-0.25, 0.65), 0.25 | (0.25, 0.65), 0.25 |

    `ArmTask` lists how the variants differ. Source: the paper's environments of the same names.
    """

    places: ClassVar[dict[str, Places]] = {
        "easy": Places((-0.1, 0.6), 0.1, (0.1, 0.6), 0.1),
        "hard": Places((-0.25, 0.65), 0.25, (0.25, 0.65), 0.25),
    }

    def build(self) -> mujoco.MjSpec:
        """Return the model: arm and cube, with the two squares marked."""
        spec = panda.panda(self.variant, cube=True)
        add_zone(spec, self.cube_centre, self.cube_noise, panda.START_ZONE_RGBA)
        add_zone(spec, self.goal_centre, self.goal_noise, panda.GOAL_ZONE_RGBA)
        panda.add_home(spec, self.variant, cube=self.cube_centre)
        return spec


class ArmBinpick(MoveCubeTask):
    """Carry a cube from the left bin to a point in the right one, over walls 6.6 cm high.

    Goal and observation are those of `ArmPush`. Centres and half edges of the squares for start and goal, and of the
    bins, in metres:

    | level | cube | goal | bins |
    |---|---|---|---|
    | easy | (-0.15, 0.6), 0.09 | (0.17, 0.6), 0.09 | (-0.17, 0.6) and (0.17, 0.6), 0.14 |
    | hard | (-0.3, 0.6), 0.15 | (0.3, 0.6), 0.15 | (-0.3, 0.6) and (0.3, 0.6), 0.19 |

    `ArmTask` lists how the variants differ. Source: the paper's environments of the same names.
    """

    places: ClassVar[dict[str, Places]] = {
        "easy": Places((-0.15, 0.6), 0.09, (0.17, 0.6), 0.09),
        "hard": Places((-0.3, 0.6), 0.15, (0.3, 0.6), 0.15),
    }
    bin_half_width: ClassVar[dict[str, float]] = {"easy": 0.14, "hard": 0.19}
    """Distance from the centre of a bin to the middle of its walls, in metres."""

    def build(self) -> mujoco.MjSpec:
        """Return the model: arm, cube and bins."""
        spec = panda.panda(self.variant, cube=True)
        spec.option.impratio = 10.0
        x, y = self.goal_centre
        panda.add_bin(spec, "left_bin", (-x, y), self.bin_half_width[self.level])
        panda.add_bin(spec, "right_bin", (x, y), self.bin_half_width[self.level])
        panda.add_home(spec, self.variant, cube=self.cube_centre)
        return spec


class ArmGrasp(CubeTask):
    """Move the fingertips to both sides of a cube.

    The goal is the positions of left and right tip (x, y, z each) and their distance: 7.5 cm apart along x, with the
    cube in the middle. It moves with the cube. It is reached when the middle of the tips is within 5 cm of the cube and
    their distance within 2 cm of 7.5 cm. The observation (23) is the position of the cube, the seven joint angles, the
    position and velocity of the end effector, left tip, right tip, and the distance of the tips.

    The paper's code gives the goal one control step late; here goal and observation belong to the same moment. In the
    paper's variant each tip is on a hinge that can turn by 1e-4 rad; `ArmTask` lists the other differences.

    Source: the paper's environment `arm_grasp`.
    """

    bodies = ("link7", "left_tip", "right_tip")
    goal_body = None
    success_distance = 0.05
    """The goal is reached below this distance between the cube and the middle of the fingertips, in metres."""
    opening = 0.075
    """Desired distance of the fingertips, in metres."""
    opening_tolerance = 0.02
    """Largest deviation from it that counts as success, in metres."""

    goal_names = (*xyz("left tip"), *xyz("right tip"), "distance of the tips (m)")
    observation_names = (*xyz("cube"), *ANGLE_NAMES, *END_EFFECTOR_NAMES, *goal_names)

    def __init__(self, noise: float = 0.3, variant: str = "default"):
        """Create the task.

        Args:
            noise: half the edge of the square from which the cube's start is drawn, in metres.
            variant: see `ArmTask`.

        Raises:
            ConfigurationError: if the noise is not from 0 to 0.5, or there is no such variant.
        """
        super().__init__(variant)
        if not 0.0 <= noise <= 0.5:
            raise ConfigurationError(f"noise={noise} m must be from 0 to 0.5 m; beyond it cubes lie under the robot")
        self.cube_noise = noise

    def build(self) -> mujoco.MjSpec:
        """Return the model: arm with fingertips, and cube."""
        spec = panda.panda(self.variant, cube=True)
        panda.add_fingertips(spec, self.variant)
        if self.cube_noise > 0.0:
            add_zone(spec, self.cube_centre, self.cube_noise, panda.START_ZONE_RGBA)
        panda.add_home(spec, self.variant, cube=self.cube_centre)
        return spec

    def observe(self, state: RobotState) -> Float[Array, "23"]:
        """Return cube, joint angles, position and velocity of the end effector, and the achieved goal."""
        return jnp.concatenate(
            [self.cube(state), self.arm_angles(state), self.end_effector(state), self.achieved_goal(state)]
        )

    def achieved_goal(self, state: RobotState) -> Float[Array, "7"]:
        """Return left tip, right tip and their distance, in metres."""
        left, right = (state.position[self.body(name)] for name in ("left_tip", "right_tip"))
        return jnp.concatenate([left, right, self.distance(state, "left_tip", "right_tip")])

    def goal_around(self, cube: Float[Array, "3"]) -> Float[Array, "7"]:
        """Return the goal for a cube at a position (x, y, z in metres)."""
        side = jnp.array([0.5 * self.opening, 0.0, 0.0])
        return jnp.concatenate([cube + side, cube - side, jnp.array([self.opening])])

    def reset(self, key: PRNGKeyArray) -> tuple[Start, Float[Array, "7"]]:
        """Draw the position of the cube; the goal follows from it."""
        start = self.draw_start(key)
        return start, self.goal_around(start.qpos[self.cube_qpos : self.cube_qpos + 3])

    def current_goal(self, state: RobotState, desired_goal: Float[Array, "7"]) -> Float[Array, "7"]:
        """Return the goal for the current position of the cube."""
        del desired_goal
        return self.goal_around(self.cube(state))

    @property
    def success_text(self) -> str:
        """When a goal is reached, in one line."""
        return (
            f"the middle of the tips within {self.success_distance:g} m of the cube, and their distance within "
            f"{self.opening_tolerance:g} m of {self.opening:g} m"
        )

    def success(self, achieved_goal: Float[Array, "7"], desired_goal: Float[Array, "7"]) -> Bool[Array, ""]:
        """Return whether the tips are around the cube, at the desired distance from each other."""
        apart = 0.5 * (achieved_goal[:3] + achieved_goal[3:6] - desired_goal[:3] - desired_goal[3:6])
        opening_error = jnp.abs(achieved_goal[6] - desired_goal[6])
        return (jnp.linalg.norm(apart) < self.success_distance) & (opening_error < self.opening_tolerance)

    def marker(self, desired_goal: Float[np.ndarray, "7"]) -> tuple[Float[np.ndarray, "3"], float]:
        """Return the middle of the desired tips, and the success distance as radius."""
        return 0.5 * (desired_goal[:3] + desired_goal[3:6]), self.success_distance
