"""Tasks for robots: a MuJoCo model, how starts and goals are drawn, and what the achieved goal and success are."""

import inspect
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.envs.drawing import Ghost, Mark
from kilolayer.envs.names import actuator_names, position_names, velocity_names, xyz
from kilolayer.envs.robots.mjcf import load_mjcf, one_line
from kilolayer.errors import ConfigurationError, nearest_names

Variant = Literal["default", "paper"]
"""`default` is the consistent form of a task; `paper` has everything that the published numbers depend on."""
VARIANTS: Final[tuple[str, ...]] = get_args(Variant)


class Start(eqx.Module):
    """Joint positions and velocities at the start of an episode."""

    qpos: Float[Array, "*num_envs nq"]
    """Joint positions in MuJoCo's order: metres, radians, quaternions as w, x, y, z."""
    qvel: Float[Array, "*num_envs nv"]
    """Joint velocities in MuJoCo's order; of a free joint: linear in world axes, angular in body axes."""


class RobotState(eqx.Module):
    """State of robots between two steps, the same for all engines.

    Positions, quaternions and velocities are those of the task's tracked bodies (`RobotTask.tracked_bodies`), in that
    order. They belong to the same moment as `qpos` and `qvel`.
    """

    qpos: Float[Array, "*num_envs nq"]
    """Joint positions in MuJoCo's order."""
    qvel: Float[Array, "*num_envs nv"]
    """Joint velocities in MuJoCo's order."""
    control: Float[Array, "*num_envs nu"]
    """Control of the last step; zeros at the start of an episode."""
    position: Float[Array, "*num_envs bodies 3"]
    """Origin of the body's frame, in metres."""
    quaternion: Float[Array, "*num_envs bodies 4"]
    """Orientation of the body's frame: w, x, y, z."""
    velocity: Float[Array, "*num_envs bodies 3"]
    """Linear velocity of the origin of the body's frame in world axes, in metres per second."""
    angular_velocity: Float[Array, "*num_envs bodies 3"]
    """In world axes, in radians per second."""
    engine: Any
    """Everything else that the engine's next step depends on."""


MARKER_RADIUS = 0.05
"""Radius of a goal's mark in pictures if the task has no success distance, in metres."""


class RobotTask:
    """Base class of goal-reaching tasks for robots given as MJCF. Derive from it and override what differs.

    A task has to define its model (`mjcf` or `build`), how goals are drawn (`draw_goal` or `reset`), and where the
    achieved goal is read (`goal_body` or `achieved_goal`).

        class Reach(RobotTask):
            mjcf = "arm.xml"
            control_step = 0.05
            goal_body = "hand"
            success_distance = 0.05

            def draw_goal(self, key):
                return jax.random.uniform(key, (3,), minval=-0.3, maxval=0.3)

    All methods from `control` on see one robot; the environment maps them over all.

    Raises:
        ConfigurationError: when an engine is built for the task, if the model does not compile, `control_step` is not a
            multiple of the model's time step, or the model lacks one of the bodies.
    """

    mjcf: ClassVar[str | None] = None
    """MJCF file; a relative path starts at the folder of the file that defines the class."""
    control_step: float = 0.05
    """Seconds between two actions: a multiple of the model's time step."""
    bodies: Sequence[str] = ()
    """Names of the bodies whose poses and velocities the task reads; `goal_body` is added if it is missing."""
    goal_body: str | None = None
    """Body whose position is the achieved goal, unless `achieved_goal` is overridden."""
    success_distance: float | None = 0.1
    """The goal is reached below this distance between achieved and desired goal. None: success is never signalled, and
    agents that are rewarded for success cannot be trained."""
    engines: tuple[str, ...] = ("mujoco", "mjx", "spring")
    """Names of the engines that can run the task; the first is the default on a CPU."""
    variant: str = "default"
    """Form of the task, if it has more than one."""
    leave_out: Sequence[str] = ()
    """Kinds of physics that an engine may leave out if it cannot move them, such as `("actuator delay",)`; they are
    named by the error of an engine. Without, such an engine refuses the task."""
    unit_quaternions: bool = True
    """Normalise the quaternions of starts, as engines differ in what they do with others; False keeps them."""

    @property
    def paper(self) -> bool:
        """Whether the variant is `paper`."""
        return self.variant == "paper"

    def build(self) -> mujoco.MjSpec:
        """Return the model as MuJoCo's editable specification. Override it to add walls, props or other edits."""
        if self.mjcf is None:
            raise ConfigurationError(f"task {type(self).__name__} names no model; set `mjcf`, or override `build`")
        path = Path(self.mjcf)
        return load_mjcf(path if path.is_absolute() else self._folder() / path)

    def _folder(self) -> Path:
        """Return the folder of the file with the class that names the model; in a notebook, the current one."""
        owner = next((cls for cls in type(self).__mro__ if "mjcf" in vars(cls)), type(self))
        try:
            return Path(inspect.getfile(owner)).parent
        except (TypeError, OSError):
            return Path.cwd()

    @cached_property
    def model(self) -> mujoco.MjModel:
        """The compiled model."""
        try:
            model = self.build().compile()
        except (ValueError, mujoco.FatalError) as error:
            raise ConfigurationError(
                f"the model of task {type(self).__name__} does not compile: {one_line(error)}"
            ) from None
        # A state that is not finite must stay visible; by default MuJoCo resets it silently.
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        return model

    @cached_property
    def substeps(self) -> int:
        """Engine steps in a control step."""
        timestep = self.model.opt.timestep
        ratio = self.control_step / timestep if timestep > 0.0 else math.nan  # MuJoCo compiles models with a step of 0
        substeps = round(ratio) if math.isfinite(ratio) else 0
        if substeps < 1 or abs(substeps * timestep - self.control_step) > 1e-6:
            raise ConfigurationError(
                f"control_step={self.control_step} s of task {type(self).__name__} is not a multiple of the model's "
                f"time step of {timestep} s"
            )
        return substeps

    @cached_property
    def tracked_bodies(self) -> tuple[str, ...]:
        """Bodies in `RobotState`: `bodies`, and `goal_body` if it is not among them."""
        tracked = tuple(self.bodies)
        if self.goal_body is not None and self.goal_body not in tracked:
            tracked = (*tracked, self.goal_body)
        known = [self.model.body(number).name for number in range(1, self.model.nbody)]
        for name in tracked:
            if name not in known:
                raise ConfigurationError(
                    f"task {type(self).__name__} names the body {name!r}, which its model does not have; "
                    f"{nearest_names(name, known, listing=f'there are {len(known)}')}"
                )
        return tracked

    def body(self, name: str) -> int:
        """Return the index of a tracked body in the arrays of `RobotState`."""
        return self.tracked_bodies.index(name)

    @cached_property
    def observation_size(self) -> int:
        """Number of entries of an observation, without the goal."""
        return int(jax.eval_shape(lambda: self.observe(self._zero_state())).size)

    @cached_property
    def goal_size(self) -> int:
        """Number of entries of a goal."""
        return int(jax.eval_shape(lambda: self.achieved_goal(self._zero_state())).size)

    @property
    def action_size(self) -> int:
        """Number of entries of an action, each in [-1, 1]: one for each actuator."""
        return int(self.model.nu)

    @property
    def observation_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of an observation: from the model, or None if `observe` is overridden.

        A task that overrides `observe` should override this, too.
        """
        if type(self).observe is not RobotTask.observe:
            return None
        return (*position_names(self.model), *velocity_names(self.model))

    @property
    def goal_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of a goal: from `goal_body`, or None if `achieved_goal` is overridden."""
        if type(self).achieved_goal is not RobotTask.achieved_goal or self.goal_body is None:
            return None
        return xyz(self.goal_body)

    @property
    def action_names(self) -> tuple[str, ...] | None:
        """Name, range and unit of each entry of an action: from the model, or None if `control` is overridden."""
        return actuator_names(self.model) if type(self).control is RobotTask.control else None

    @cached_property
    def first_data(self) -> mujoco.MjData:
        """MuJoCo's state at the first keyframe, or the default: with activations and mocap bodies of every start."""
        data = mujoco.MjData(self.model)
        if self.model.nkey:
            mujoco.mj_resetDataKeyframe(self.model, data, 0)
        return data

    @cached_property
    def home(self) -> Start:
        """Default start, at rest: the model's first keyframe, or its zero pose if it has none."""
        qpos = self.model.key_qpos[0] if self.model.nkey else self.model.qpos0
        with jax.ensure_compile_time_eval():
            return Start(qpos=jnp.asarray(qpos, jnp.float32), qvel=jnp.zeros(self.model.nv))

    def control(self, action: Float[Array, " action"]) -> Float[Array, " control"]:
        """Map an action to controls: from [-1, 1] to the range of each actuator; unchanged if it has no range."""
        limited = np.asarray(self.model.actuator_ctrllimited, bool)[:, None]
        low, high = jnp.asarray(np.where(limited, self.model.actuator_ctrlrange, (-1.0, 1.0)).T, jnp.float32)
        return 0.5 * (high + low) + 0.5 * (high - low) * action

    def reset(self, key: PRNGKeyArray) -> tuple[Start, Float[Array, " goal"]]:
        """Draw the start of an episode and its goal. Override it if one depends on the other."""
        start_key, goal_key = jax.random.split(key)
        return self.draw_start(start_key), self.draw_goal(goal_key)

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw the start of an episode; by default `home`."""
        del key
        return self.home

    def with_unit_quaternions(self, start: Start) -> Start:
        """Return a start whose quaternions have unit length; one of zeros becomes the identity, as in MuJoCo."""
        qpos = start.qpos
        places = {int(mujoco.mjtJoint.mjJNT_FREE): 3, int(mujoco.mjtJoint.mjJNT_BALL): 0}
        for kind, address in zip(self.model.jnt_type.tolist(), self.model.jnt_qposadr.tolist(), strict=True):
            if kind in places:
                first = address + places[kind]
                quaternion = qpos[..., first : first + 4]
                length = jnp.linalg.norm(quaternion, axis=-1, keepdims=True)
                unit = jnp.where(length < mujoco.mjMINVAL, jnp.eye(4)[0], quaternion / length)
                qpos = qpos.at[..., first : first + 4].set(unit)
        return Start(qpos=qpos, qvel=start.qvel)

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, " goal"]:
        """Draw the goal of an episode."""
        raise ConfigurationError(f"task {type(self).__name__} does not draw goals; define `draw_goal`")

    def observe(self, state: RobotState) -> Float[Array, " observation"]:
        """Return the observation: by default joint positions and velocities."""
        return jnp.concatenate([state.qpos, state.qvel])

    def achieved_goal(self, state: RobotState) -> Float[Array, " goal"]:
        """Return the goal that this state achieves: by default the position of `goal_body`."""
        if self.goal_body is None:
            raise ConfigurationError(
                f"task {type(self).__name__} has no achieved goal; set `goal_body`, or define `achieved_goal`"
            )
        return state.position[self.body(self.goal_body)]

    def current_goal(self, state: RobotState, desired_goal: Float[Array, " goal"]) -> Float[Array, " goal"]:
        """Return the desired goal after this step. Override it for a goal that moves."""
        del state
        return desired_goal

    def success(self, achieved_goal: Float[Array, " goal"], desired_goal: Float[Array, " goal"]) -> Bool[Array, ""]:
        """Return whether the goal is reached: by default, whether its distance is below `success_distance`."""
        if self.success_distance is None:
            return jnp.zeros((), bool)
        return jnp.linalg.norm(achieved_goal - desired_goal) < self.success_distance

    def reward(self, achieved_goal: Float[Array, " goal"], desired_goal: Float[Array, " goal"]) -> Float[Array, ""]:
        """Return the negative distance to the goal."""
        return -jnp.linalg.norm(achieved_goal - desired_goal)

    def failed(self, state: RobotState) -> Bool[Array, ""]:
        """Return whether the episode terminates here as a failure; by default never."""
        del state
        return jnp.zeros((), bool)

    def scene(self) -> mujoco.MjSpec:
        """Return the model to draw in films and 3-D pages: by default the robot's own."""
        return self.build()

    def scene_qpos(self, state: RobotState) -> Float[Array, "*num_envs nq"]:
        """Return the joint positions of the drawn model."""
        return state.qpos

    def marker(self, desired_goal: Float[np.ndarray, " goal"]) -> Mark | None:
        """Return position and radius, in metres, of the mark that shows a goal in pictures; None for no mark.

        By default the first three entries of a goal are x, y, z; missing ones are 0.
        """
        position = np.zeros(3, np.float32)
        position[: min(3, len(desired_goal))] = desired_goal[:3]
        return position, self.success_distance or MARKER_RADIUS

    def ghost(self, desired_goal: Float[np.ndarray, " goal"]) -> Ghost | None:
        """Return the robot as the goal has it, which pictures draw see-through; by default None, for no ghost."""
        del desired_goal
        return None

    def _zero_state(self) -> RobotState:
        model, bodies = self.model, len(self.tracked_bodies)
        return RobotState(
            qpos=jnp.zeros(model.nq),
            qvel=jnp.zeros(model.nv),
            control=jnp.zeros(model.nu),
            position=jnp.zeros((bodies, 3)),
            quaternion=jnp.zeros((bodies, 4)),
            velocity=jnp.zeros((bodies, 3)),
            angular_velocity=jnp.zeros((bodies, 3)),
            engine=None,
        )


def rotate(quaternion: Float[Array, "4"], vector: Float[Array, "3"]) -> Float[Array, "3"]:
    """Rotate a vector from body axes to world axes, by the body's quaternion (w, x, y, z)."""
    w, axis = quaternion[0], quaternion[1:]
    return vector + 2 * jnp.cross(axis, jnp.cross(axis, vector) + w * vector)


def check_variant(variant: str) -> None:
    """Validate the setting `variant`.

    Raises:
        ConfigurationError: if it is not one of `VARIANTS`.
    """
    if variant not in VARIANTS:
        raise ConfigurationError(f"variant={variant!r} must be one of {', '.join(map(repr, VARIANTS))}")
