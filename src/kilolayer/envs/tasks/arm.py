"""Panda arm: the base class of the arm tasks, and reaching a point. Tasks with a cube are in `arm_cube`.

In all of them an action sets target angles of joints 1, 2, 4 and 6 and opens or closes the gripper; joints 3, 5 and 7
hold constant targets. The end effector is the origin of the last link's frame, as in the paper: the wrist, 24 cm above
the ends of the fingers.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs.names import xyz
from kilolayer.envs.robot_task import RobotState, RobotTask, check_variant
from kilolayer.envs.robots import panda
from kilolayer.envs.robots.table import add_zone

STEERED = (0, 1, 3, 5)
"""Joints, counted from 0, whose targets are the entries of an action, in this order."""
LOWEST_TARGET = np.array([0.3491, 0.0, -3.0718, 2.3562], np.float32)
"""Targets of the steered joints at an action of -1, in radians."""
HIGHEST_TARGET = np.array([2.7925, 1.48353, -0.0698, 3.7525], np.float32)
"""Targets of the steered joints at an action of +1, in radians."""
HELD: dict[str, tuple[float, ...]] = {
    "default": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.7854),
    "paper": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.4487),
}
"""Constant targets of the other joints, in radians; 0 for steered joints."""
ANGLE_NAMES = tuple(f"joint{joint} angle (rad)" for joint in range(1, 8))
END_EFFECTOR_NAMES = (*xyz("end effector"), *xyz("end effector velocity", "m/s"))
FINGERS_OPEN = 255.0
"""Control that opens a finger; 0 closes it."""


class ArmTask(RobotTask):
    """Base class of the arm tasks.

    The variant "default" is a consistent robot, which moves the same on every engine. "paper" is the robot of the
    paper's code, with peculiarities that its figures depend on:

    | | default | paper |
    |---|---|---|
    | rest angles of joints 3 to 7 | their targets | 0.5 (5, 6, 7) or 0.571 (3, 4) of their targets |
    | arm joints | armature 0.1 kg m2, damping 5 N m s | neither |
    | joints 1, 3, 5, 7 | limited to 2.9 rad | unlimited |
    | integrator | Euler, with step * kv as additional armature | implicitfast |
    | target of joint 7 | 0.785: the hand is square to the arm | 1.449, but the joint rests at 0.724 |
    | pose at the start | constant under an action of 0 | joints 4, 6 and 7 leave it at once |
    | order of the bodies | arm, then cube | cube, then arm |

    Since version 3.5 MuJoCo simulates saturated actuators with the integrator implicitfast differently than before: the
    paper's arm is several times faster there. So "paper" has the paper's dynamics only on the engine `mjx` with
    `impl="jax"`. The paper's code also reads end effector and fingers one time step (2 ms) late; here all entries
    belong to the same moment. It has a body at the goal, which nothing touches or observes; here there is none.

    The action is the target of joints 1, 2, 4, 6, each in [-1, 1] (joint 1: 0.35 to 2.79 rad, joint 2: 0 to 1.48,
    joint 4: -3.07 to -0.07, joint 6: 2.36 to 3.75). With a gripper there is one more entry, which closes the gripper if
    it is above 0 and opens it otherwise.
    """

    control_step = 0.05
    bodies: Sequence[str] = ("link7", "left_finger", "right_finger")

    def __init__(self, variant: str = "default"):
        """Create the task.

        Args:
            variant: `"default"` or `"paper"`.

        Raises:
            ConfigurationError: if there is no such variant.
        """
        check_variant(variant)
        self.variant = variant
        self.engines = ("mjx", "mujoco") if variant == "paper" else ("mujoco", "mjx")

    @property
    def action_size(self) -> int:
        """Four steered joints and the gripper."""
        return len(STEERED) + 1

    @property
    def action_names(self) -> tuple[str, ...]:
        """Name, range and unit of each entry of an action."""
        ranges = zip(STEERED, LOWEST_TARGET, HIGHEST_TARGET, strict=True)
        targets = (f"joint{joint + 1} target ({low:.4g} to {high:.4g} rad)" for joint, low, high in ranges)
        return (*targets, "gripper (closes above 0, else opens)")[: self.action_size]

    def control(self, action: Float[Array, " action"]) -> Float[Array, " control"]:
        """Map an action to target angles of seven joints, in radians, and controls of two fingers, 0 or 255."""
        share = 0.5 + 0.5 * action[: len(STEERED)]
        targets = (1.0 - share) * LOWEST_TARGET + share * HIGHEST_TARGET
        arm = jnp.array(HELD[self.variant]).at[jnp.array(STEERED)].set(targets)
        fingers = jnp.where(action[len(STEERED) :] > 0.0, 0.0, FINGERS_OPEN)
        return jnp.concatenate([arm, fingers, fingers])

    @property
    def arm_qpos(self) -> slice:
        """Where the angles of the arm's seven joints are in `qpos`."""
        first = int(self.model.joint("joint1").qposadr[0])
        return slice(first, first + 7)

    def arm_angles(self, state: RobotState) -> Float[Array, "7"]:
        """Return the angles of the arm's seven joints, in radians."""
        return state.qpos[self.arm_qpos]

    def end_effector(self, state: RobotState) -> Float[Array, "6"]:
        """Return position and velocity of the end effector, in metres and metres per second."""
        link = self.body("link7")
        return jnp.concatenate([state.position[link], state.velocity[link]])

    def distance(self, state: RobotState, first: str, second: str) -> Float[Array, "1"]:
        """Return the distance between two bodies, in metres."""
        apart = state.position[self.body(first)] - state.position[self.body(second)]
        return jnp.linalg.norm(apart, keepdims=True)


class ArmReach(ArmTask):
    """Move the end effector to a point in the air.

    The goal is x, y, z of the end effector, drawn uniformly from a cube with an edge of 0.4 m around (0, 0.5, 0.3), and
    reached below a distance of 0.1 m. There are no fingers, and an action has four entries. The observation (13) is the
    seven joint angles and the position and velocity of the end effector. Some resting pose reaches 99.9 % of the goals
    in the default variant, and about half of them in the paper's; `ArmTask` lists the other differences.

    Source: the paper's environment `arm_reach`.
    """

    bodies = ("link7",)
    goal_body = "link7"
    goal_centre = (0.0, 0.5, 0.3)
    """Metres."""
    goal_noise = 0.2
    """Half the edge of the cube that goals are drawn from, in metres."""

    def build(self) -> mujoco.MjSpec:
        """Return the model: the arm without fingers, and a mark on the table below the goals."""
        spec = panda.panda(self.variant, gripper=False)
        add_zone(spec, self.goal_centre[:2], self.goal_noise, panda.GOAL_ZONE_RGBA)
        panda.add_home(spec, self.variant)
        return spec

    @property
    def action_size(self) -> int:
        """Four steered joints."""
        return len(STEERED)

    def control(self, action: Float[Array, "4"]) -> Float[Array, "7"]:
        """Map an action to target angles of seven joints, in radians."""
        return super().control(action)[:7]

    observation_names = (*ANGLE_NAMES, *END_EFFECTOR_NAMES)
    action_names = ArmTask.action_names  # given again, because `control` is overridden
    goal_names = xyz("end effector")

    def observe(self, state: RobotState) -> Float[Array, "13"]:
        """Return joint angles, and position and velocity of the end effector."""
        return jnp.concatenate([self.arm_angles(state), self.end_effector(state)])

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "3"]:
        """Draw a point in the cube."""
        return jnp.array(self.goal_centre) + uniform(key, 3, self.goal_noise)


def uniform(key: PRNGKeyArray, size: int, half_width: float) -> Float[Array, " size"]:
    """Draw numbers uniformly from -half_width to half_width."""
    return jax.random.uniform(key, (size,), minval=-half_width, maxval=half_width)
