"""Panda arm: reach a point, push a cube, carry it from bin to bin, grasp it (the paper's arm tasks).

All arm tasks steer joints 1, 2, 4 and 6 by absolute targets, hold joints 3, 5 and 7, and open or close the gripper.
What they call the end effector is the origin of the last link's frame, as in the paper: the wrist, 24 cm above the
finger ends.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.envs.robot_task import RobotState, RobotTask, Start, check_variant
from kilolayer.envs.robots import panda
from kilolayer.errors import ConfigurationError

LEVELS = ("easy", "hard")

STEERED = (0, 1, 3, 5)
"""Joints, counted from 0, whose targets an action gives, in its order."""
LOWEST_TARGET = np.array([0.3491, 0.0, -3.0718, 2.3562], np.float32)
"""Targets of the steered joints at an action of -1, in radians."""
HIGHEST_TARGET = np.array([2.7925, 1.48353, -0.0698, 3.7525], np.float32)
"""Targets of the steered joints at an action of +1, in radians."""
HELD: dict[str, tuple[float, ...]] = {
    "default": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.7854),
    "paper": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.4487),
}
"""Targets of the joints that are held, in radians; 0 for those that are steered."""
FINGERS_OPEN = 255.0
"""Control of a finger that opens; one that closes has 0."""


class ArmTask(RobotTask):
    """What the arm tasks share.

    Variants: "default" is a sound robot, which moves alike on every engine. "paper" is the robot that the paper's code
    simulates, odd in ways that its figures depend on:

    | | default | paper |
    |---|---|---|
    | where joints 3 to 7 come to rest | at their targets | at 0.5 (5, 6, 7) or 0.571 (3, 4) of them |
    | arm joints | armature 0.1 kg m2, damping 5 N m s | neither |
    | joints 1, 3, 5, 7 | end at 2.9 rad | turn without end |
    | integrator | Euler, with step * kv as more armature | implicitfast |
    | joint 7 is held | at 0.785: the hand is square to the arm | at 1.449, where it does not stay: it rests at 0.724 |
    | pose at the start | stays under an action of 0 | joints 4, 6 and 7 leave it at once |

    MuJoCo since 3.5 moves an implicitfast robot with saturated actuators differently from before; the paper's arm is
    several times faster on it. So "paper" has the paper's dynamics on the engine `mjx` with `impl="jax"` only.
    The paper's code also reads the end effector and the fingers one time step of 2 ms late; here all belong to one
    moment. And it keeps a body at the goal, which nothing touches or sees; here there is none.

    Actions: targets of joints 1, 2, 4, 6, each in [-1, 1] (1: 0.35 to 2.79 rad, 2: 0 to 1.48, 4: -3.07 to -0.07,
    6: 2.36 to 3.75); where there is a gripper, a last number that closes it if above 0, and opens it otherwise.
    """

    control_step = 0.05
    bodies: Sequence[str] = ("link7", "left_finger", "right_finger")

    def __init__(self, variant: str = "default"):
        """Choose the variant.

        Raises:
            ConfigurationError: if there is no such variant.
        """
        check_variant(variant)
        self.variant = variant
        self.engines = ("mjx", "mujoco") if variant == "paper" else ("mujoco", "mjx")

    @property
    def action_size(self) -> int:
        """Four steered joints, and the gripper."""
        return len(STEERED) + 1

    def control(self, action: Float[Array, " action"]) -> Float[Array, " control"]:
        """Turn an action into the targets of seven joints, in radians, and controls of two fingers, 0 or 255."""
        share = 0.5 + 0.5 * action[: len(STEERED)]
        targets = (1.0 - share) * LOWEST_TARGET + share * HIGHEST_TARGET
        arm = jnp.array(HELD[self.variant]).at[jnp.array(STEERED)].set(targets)
        fingers = jnp.where(action[len(STEERED) :] > 0.0, 0.0, FINGERS_OPEN)
        return jnp.concatenate([arm, fingers, fingers])

    def arm_angles(self, state: RobotState) -> Float[Array, "7"]:
        """Return the angles of the arm's joints, in radians."""
        return state.qpos[:7]

    def end_effector(self, state: RobotState) -> Float[Array, "6"]:
        """Return position and velocity of the last link's frame, in metres and metres per second."""
        link = self.body("link7")
        return jnp.concatenate([state.position[link], state.velocity[link]])

    def distance(self, state: RobotState, first: str, second: str) -> Float[Array, "1"]:
        """Return the distance between two bodies, in metres."""
        apart = state.position[self.body(first)] - state.position[self.body(second)]
        return jnp.linalg.norm(apart, keepdims=True)


class ArmReach(ArmTask):
    """Bring the end effector to a point in the air.

    The goal is x, y, z of the end effector: uniform in a cube of 0.4 m around (0, 0.5, 0.3). It is reached below 0.1 m.
    There are no fingers, and an action has four numbers. Observation (13): seven joint angles, position and velocity of
    the end effector. With the default variant a resting pose reaches 99.9 % of the goals, with the paper's about half;
    see `ArmTask` for what else the variants differ in.
    """

    bodies = ("link7",)
    goal_body = "link7"
    goal_centre = (0.0, 0.5, 0.3)
    """Metres."""
    goal_noise = 0.2
    """Half the edge of the cube that goals are drawn from, in metres."""

    def build(self) -> mujoco.MjSpec:
        """Return the arm without fingers, and a mark on the table below the goals."""
        spec = panda.panda(self.variant, gripper=False)
        panda.add_zone(spec, self.goal_centre[:2], self.goal_noise, panda.GOAL_ZONE_RGBA)
        panda.add_home(spec, self.variant)
        return spec

    @property
    def action_size(self) -> int:
        """Four steered joints."""
        return len(STEERED)

    def control(self, action: Float[Array, "4"]) -> Float[Array, "7"]:
        """Turn an action into the targets of seven joints, in radians."""
        return super().control(action)[:7]

    def observe(self, state: RobotState) -> Float[Array, "13"]:
        """Return joint angles, end effector's position, its velocity."""
        return jnp.concatenate([self.arm_angles(state), self.end_effector(state)])

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "3"]:
        """Draw a point of the cube."""
        return jnp.array(self.goal_centre) + _noise(key, 3, self.goal_noise)


class CubeTask(ArmTask):
    """What the tasks with a cube share: it falls from 4 cm above the table, and its resting place is the goal."""

    goal_body: str | None = "cube"
    cube_centre: tuple[float, float] = (0.0, 0.6)
    """Middle of the square where the cube begins: x and y in metres."""
    cube_noise: float = 0.0
    """Half the width of that square, in metres."""

    @property
    def cube_qpos(self) -> int:
        """Where the cube's position begins in `qpos`."""
        return int(self.model.joint("cube").qposadr[0])

    def cube(self, state: RobotState) -> Float[Array, "3"]:
        """Return the cube's position, in metres."""
        return state.qpos[self.cube_qpos : self.cube_qpos + 3]

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw the cube's x and y; the arm begins in one pose, everything at rest."""
        home = super().draw_start(key)
        xy = slice(self.cube_qpos, self.cube_qpos + 2)
        return Start(qpos=home.qpos.at[xy].add(_noise(key, 2, self.cube_noise)), qvel=home.qvel)

    def observe(self, state: RobotState) -> Float[Array, " observation"]:
        """Return cube, joint angles, end effector's position, its velocity, distance of the fingers."""
        fingers = self.distance(state, "left_finger", "right_finger")
        return jnp.concatenate([self.cube(state), self.arm_angles(state), self.end_effector(state), fingers])


class Places(NamedTuple):
    """Where a cube begins and should end: centres (x, y) and half widths of two squares, in metres."""

    cube: tuple[float, float]
    cube_noise: float
    goal: tuple[float, float]
    goal_noise: float


class MoveCubeTask(CubeTask):
    """Bring a cube from one square of the table to a place in another."""

    places: ClassVar[dict[str, Places]]
    """Of each level."""

    def __init__(self, level: str = "easy", variant: str = "default"):
        """Choose level and variant.

        Raises:
            ConfigurationError: if there is no such level or variant.
        """
        super().__init__(variant)
        if level not in LEVELS:
            raise ConfigurationError(f"level={level!r} must be one of {', '.join(map(repr, LEVELS))}")
        self.level = level
        self.cube_centre, self.cube_noise, self.goal_centre, self.goal_noise = self.places[level]

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "3"]:
        """Draw a place for the cube's centre, on the table."""
        return jnp.array([*self.goal_centre, panda.CUBE_HALF_EDGE]).at[:2].add(_noise(key, 2, self.goal_noise))


class ArmPush(MoveCubeTask):
    """Push a cube to a place on the table.

    The goal is x, y, z of the cube, reached below 0.1 m. Observation (17): cube's position, seven joint angles,
    position and velocity of the end effector, distance of the fingers. The cube begins and should end in squares with
    these centres and half widths, in metres:

    | level | cube | goal |
    |---|---|---|
    | easy | (-0.1, 0.6), 0.1 | (0.1, 0.6), 0.1 |
    | hard | (-0.25, 0.65), 0.25 | (0.25, 0.65), 0.25 |

    See `ArmTask` for what the variants differ in.
    """

    places: ClassVar[dict[str, Places]] = {
        "easy": Places((-0.1, 0.6), 0.1, (0.1, 0.6), 0.1),
        "hard": Places((-0.25, 0.65), 0.25, (0.25, 0.65), 0.25),
    }

    def build(self) -> mujoco.MjSpec:
        """Return arm and cube, with the two squares marked."""
        spec = panda.panda(self.variant)
        panda.add_cube(spec)
        panda.add_zone(spec, self.cube_centre, self.cube_noise, panda.START_ZONE_RGBA)
        panda.add_zone(spec, self.goal_centre, self.goal_noise, panda.GOAL_ZONE_RGBA)
        panda.add_home(spec, self.variant, cube=self.cube_centre)
        return spec


class ArmBinpick(MoveCubeTask):
    """Carry a cube from the left bin to a place in the right one, over walls of 6.6 cm.

    Goal and observation as in `ArmPush`. Centres and half widths, in metres, of the squares where the cube begins and
    should end, and of the bins:

    | level | cube | goal | bins |
    |---|---|---|---|
    | easy | (-0.15, 0.6), 0.09 | (0.17, 0.6), 0.09 | (-0.17, 0.6) and (0.17, 0.6), 0.14 |
    | hard | (-0.3, 0.6), 0.15 | (0.3, 0.6), 0.15 | (-0.3, 0.6) and (0.3, 0.6), 0.19 |

    See `ArmTask` for what the variants differ in.
    """

    places: ClassVar[dict[str, Places]] = {
        "easy": Places((-0.15, 0.6), 0.09, (0.17, 0.6), 0.09),
        "hard": Places((-0.3, 0.6), 0.15, (0.3, 0.6), 0.15),
    }
    bin_half_width: ClassVar[dict[str, float]] = {"easy": 0.14, "hard": 0.19}
    """From a bin's centre to the middle of its walls, in metres."""

    def build(self) -> mujoco.MjSpec:
        """Return arm, cube and bins."""
        spec = panda.panda(self.variant)
        spec.option.impratio = 10.0
        panda.add_cube(spec)
        x, y = self.goal_centre
        panda.add_bin(spec, "left_bin", (-x, y), self.bin_half_width[self.level])
        panda.add_bin(spec, "right_bin", (x, y), self.bin_half_width[self.level])
        panda.add_home(spec, self.variant, cube=self.cube_centre)
        return spec


class ArmGrasp(CubeTask):
    """Bring the fingertips around a cube.

    The goal is left tip, right tip (x, y, z each) and their distance: the tips 7.5 cm apart on either side of the cube,
    along x. It moves with the cube. It is reached when the middle between the tips is within 5 cm of the cube and their
    distance within 2 cm of 7.5 cm. Observation (23): cube's position, seven joint angles, position and velocity of the
    end effector, left tip, right tip, their distance. The paper's code shows the goal one control step late; here it
    belongs to the observation's moment. In the paper's variant each tip is on a hinge that can turn by 1e-4 rad; see
    `ArmTask` for what else the variants differ in.
    """

    bodies = ("link7", "left_tip", "right_tip")
    goal_body = None
    success_distance = 0.05
    """Metres between the cube and the middle of the fingertips."""
    opening = 0.075
    """Distance of the fingertips that a grasp should have, in metres."""
    opening_tolerance = 0.02
    """Metres."""

    def __init__(self, noise: float = 0.3, variant: str = "default"):
        """Choose how far from the middle of the table cubes begin, and the variant.

        Args:
            noise: half the width of the square where the cube begins, in metres.
            variant: see `ArmTask`.

        Raises:
            ConfigurationError: if the noise is not from 0 to 0.5, or if there is no such variant.
        """
        super().__init__(variant)
        if not 0.0 <= noise <= 0.5:
            raise ConfigurationError(f"noise={noise} m must be from 0 to 0.5 m, or cubes begin under the robot's base")
        self.cube_noise = noise

    def build(self) -> mujoco.MjSpec:
        """Return arm and cube, with fingertips."""
        spec = panda.panda(self.variant)
        panda.add_fingertips(spec, self.variant)
        panda.add_cube(spec)
        if self.cube_noise > 0.0:
            panda.add_zone(spec, self.cube_centre, self.cube_noise, panda.START_ZONE_RGBA)
        panda.add_home(spec, self.variant, cube=self.cube_centre)
        return spec

    def observe(self, state: RobotState) -> Float[Array, "23"]:
        """Return cube, joint angles, end effector's position, its velocity, left tip, right tip, their distance."""
        return jnp.concatenate(
            [self.cube(state), self.arm_angles(state), self.end_effector(state), self.achieved_goal(state)]
        )

    def achieved_goal(self, state: RobotState) -> Float[Array, "7"]:
        """Return left tip, right tip, their distance."""
        left, right = (state.position[self.body(name)] for name in ("left_tip", "right_tip"))
        return jnp.concatenate([left, right, self.distance(state, "left_tip", "right_tip")])

    def goal_around(self, cube: Float[Array, "3"]) -> Float[Array, "7"]:
        """Return the goal for a cube at this place."""
        side = jnp.array([0.5 * self.opening, 0.0, 0.0])
        return jnp.concatenate([cube + side, cube - side, jnp.array([self.opening])])

    def reset(self, key: PRNGKeyArray) -> tuple[Start, Float[Array, "7"]]:
        """Draw the cube's place; the goal is around it."""
        start = self.draw_start(key)
        return start, self.goal_around(start.qpos[self.cube_qpos : self.cube_qpos + 3])

    def current_goal(self, state: RobotState, desired_goal: Float[Array, "7"]) -> Float[Array, "7"]:
        """Return the goal around the cube where it is now."""
        del desired_goal
        return self.goal_around(self.cube(state))

    def success(self, achieved_goal: Float[Array, "7"], desired_goal: Float[Array, "7"]) -> Bool[Array, ""]:
        """Say whether the tips are around the cube, and as far apart as they should be."""
        apart = 0.5 * (achieved_goal[:3] + achieved_goal[3:6] - desired_goal[:3] - desired_goal[3:6])
        opening_error = jnp.abs(achieved_goal[6] - desired_goal[6])
        return (jnp.linalg.norm(apart) < self.success_distance) & (opening_error < self.opening_tolerance)

    def marker(self, desired_goal: Float[np.ndarray, "7"]) -> tuple[Float[np.ndarray, "3"], float]:
        """Return the middle of the two tips' goals, and how near it the middle of the tips should be."""
        return 0.5 * (desired_goal[:3] + desired_goal[3:6]), self.success_distance


def _noise(key: PRNGKeyArray, size: int, half_width: float) -> Float[Array, " size"]:
    """Draw uniform numbers from -half_width to half_width."""
    return jax.random.uniform(key, (size,), minval=-half_width, maxval=half_width)
