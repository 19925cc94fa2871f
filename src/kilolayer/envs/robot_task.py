"""Tasks for robots: a MuJoCo model, how starts and goals are drawn, and what the achieved goal and success are."""

import dataclasses
import inspect
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, get_args

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.envs import servos, starts
from kilolayer.envs.drawing import Ghost, Mark
from kilolayer.envs.methods import first_memory, in_full
from kilolayer.envs.names import actuator_names, position_names, velocity_names, xyz
from kilolayer.envs.quaternions import unit
from kilolayer.envs.robot_state import RobotState as RobotState
from kilolayer.envs.robot_state import Start as Start
from kilolayer.envs.robots.mjcf import load_mjcf, one_line
from kilolayer.envs.tracking import Tracking
from kilolayer.errors import ConfigurationError

Variant = Literal["default", "paper"]
"""`default` is the consistent form of a task; `paper` has everything that the published numbers depend on."""
VARIANTS: Final[tuple[str, ...]] = get_args(Variant)


MARKER_RADIUS = 0.05
"""Radius of a goal's mark in pictures if the task has no success distance, in metres."""


class RobotTask(Tracking):
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

    All methods from `control` on see one robot; the environment maps them over all. Some may take more arguments, as
    `kilolayer.envs.methods.FORMS` lists them: `control(action, state, memory)`, `observe(state, memory, key)`,
    `achieved_goal(state, memory)`, `current_goal(state, desired_goal, memory)`, `failed(state, memory)`.

    Raises:
        ConfigurationError: when an engine is built for the task, if the model does not compile, `control_step` is not a
            multiple of the model's time step, or the model lacks something that the task names.
    """

    mjcf: ClassVar[str | None] = None
    """MJCF file; a relative path starts at the folder of the file that defines the class."""
    control_step: float = 0.05
    """Seconds between two actions: a multiple of the model's time step."""
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
    keyframe: str | None = None
    """Name of the keyframe that `home` is; None takes the model's first."""
    settle: float = 0.0
    """Seconds of physics from the keyframe to `home`, under `rest_control`: what stands has found its feet
    then. Computed once, by MuJoCo on every engine."""
    servo_share: float | None = 0.4
    """By how much an action of 1 moves the target of a position servo from the keyframe's control, as a share of half
    the servo's range. None, or a model without keyframes: actions cover the whole range, from its middle."""
    memory: Any = None
    """What the task remembers between the steps of an episode: a pytree of one robot, or a method `memory(state, key)`
    that returns it at the start of an episode; see `remember`. None costs nothing."""
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
    def observation_size(self) -> int:
        """Number of entries of an observation, without the goal."""
        return int(jax.eval_shape(lambda key: self._read("observe", key), jax.random.key(0)).size)

    @cached_property
    def goal_size(self) -> int:
        """Number of entries of a goal."""
        return int(jax.eval_shape(lambda key: self._read("achieved_goal", key), jax.random.key(0)).size)

    def _read(self, method: str, key: PRNGKeyArray) -> Array:
        """Return what a method reads from a state of zeros."""
        state = self._zero_state()
        return in_full(method, getattr(self, method))(state, first_memory(self.memory, state, key), key)

    @property
    def action_size(self) -> int:
        """Number of entries of an action, each in [-1, 1]: one for each actuator."""
        return int(self.model.nu)

    @property
    def observation_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of an observation, from the model.

        A task that overrides `observe` should override this, too: `entry_names` takes none of a class below it.
        """
        return (*position_names(self.model), *velocity_names(self.model))

    @property
    def goal_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of a goal: from `goal_body`."""
        return None if self.goal_body is None else xyz(self.goal_body)

    @property
    def action_names(self) -> tuple[str, ...] | None:
        """Name, range and unit of each entry of an action, from the model."""
        return actuator_names(self.model, np.clip(self.action_ends, *servos.control_limits(self.model)).T)

    @property
    def control_text(self) -> str | None:
        """What actions do, in one line for `envs show` and a policy's contract."""
        if self._share is None:
            return "-1 to 1 is the range of each actuator, and is the control itself where there is none"
        return (
            f"position servos: the control of keyframe {self.model.key(self._keyframe_number).name!r} + "
            f"{self._share:g} x half the range x action, clipped to the range; others: -1 to 1 is the range"
        )

    @cached_property
    def first_data(self) -> mujoco.MjData:
        """MuJoCo's state at the task's keyframe, or the default, after `settle` seconds.

        What a start leaves out is as here.
        """
        data = starts.data_at(self.model, self._keyframe_number)
        if self.settle:
            data.ctrl[:] = 0.0 if self.rest_control is None else self.rest_control
            starts.settle(self.model, data, self.settle, type(self).__name__)
        return data

    @cached_property
    def _keyframe_number(self) -> int | None:
        return starts.keyframe_number(self.model, self.keyframe, type(self).__name__)

    @cached_property
    def home(self) -> Start:
        """Default start: all that the task's keyframe holds, or the model's zero pose, after `settle` seconds."""
        return starts.start_of(self.first_data)

    def start_at(self, keyframe: str) -> Start:
        """Return the start that a keyframe of the model holds: positions, velocities, activations, controls, mocap."""
        number = starts.keyframe_number(self.model, keyframe, type(self).__name__)
        return starts.start_of(starts.data_at(self.model, number))

    @cached_property
    def rest_control(self) -> Float[np.ndarray, " nu"] | None:
        """The controls of the task's keyframe; if it has none, those by which servos hold its pose; else None."""
        number = self._keyframe_number
        return None if number is None else servos.rest_control(self.model, starts.data_at(self.model, number))

    @property
    def _share(self) -> float | None:
        """`servo_share`, if the model has a keyframe, and servos with a range."""
        limited = np.asarray(self.model.actuator_ctrllimited, bool)
        moves = self._keyframe_number is not None and bool(np.any(servos.position_servos(self.model) & limited))
        return self.servo_share if moves else None

    @cached_property
    def action_ends(self) -> Float[np.ndarray, "2 nu"]:
        """The controls of each actuator at actions of -1 and of 1, before they are clipped to its range."""
        return servos.action_ends(self.model, self.rest_control, self._share)

    def control(self, action: Float[Array, " action"]) -> Float[Array, " control"]:
        """Map an action to controls, of each actuator by itself.

        Position servos with a range move around the keyframe's control: `rest_control` + `servo_share` x half the range
        x action, clipped to the range. Of other actuators, and in models without keyframes, -1 to 1 is the range; the
        action is the control of actuators without a range.

        An override may take state and memory, too, and may return a `Command` to move mocap bodies.
        """
        low, high = jnp.asarray(self.action_ends, jnp.float32)
        control = 0.5 * (high + low) + 0.5 * (high - low) * action
        if self._share is None:
            return control
        return jnp.clip(control, *jnp.asarray(servos.control_limits(self.model), jnp.float32))

    def remember(self, memory: Any, action: Float[Array, " action"], state: RobotState, key: PRNGKeyArray) -> Any:
        """Return what the task remembers after a step, before the step is observed; by default what it did before.

        Args:
            memory: what it remembered when the action was chosen.
            action: the action of the step, in [-1, 1].
            state: of the robot after the step.
            key: randomness.
        """
        del action, state, key
        return memory

    def reset(self, key: PRNGKeyArray) -> tuple[Start, Float[Array, " goal"]]:
        """Draw the start of an episode and its goal. Override it if one depends on the other."""
        start_key, goal_key = jax.random.split(key)
        return self.draw_start(start_key), self.draw_goal(goal_key)

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw the start of an episode; by default `home`."""
        del key
        return self.home

    def completed(self, start: Start) -> Start:
        """Return starts as the engine takes them: with quaternions of unit length, unless `unit_quaternions` is False.

        A mixin whose controls begin at those of the start fills them in here. Unlike in other methods, arrays may have
        leading axes.
        """
        if not self.unit_quaternions:
            return start
        qpos = start.qpos
        places = {int(mujoco.mjtJoint.mjJNT_FREE): 3, int(mujoco.mjtJoint.mjJNT_BALL): 0}
        for kind, address in zip(self.model.jnt_type.tolist(), self.model.jnt_qposadr.tolist(), strict=True):
            if kind in places:
                first = address + places[kind]
                qpos = qpos.at[..., first : first + 4].set(unit(qpos[..., first : first + 4]))
        return dataclasses.replace(start, qpos=qpos)

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, " goal"]:
        """Draw the goal of an episode."""
        raise ConfigurationError(f"task {type(self).__name__} does not draw goals; define `draw_goal`")

    def observe(self, state: RobotState) -> Float[Array, " observation"]:
        """Return the observation: by default joint positions and velocities."""
        return jnp.concatenate([state.qpos, state.qvel])

    def achieved_goal(self, state: RobotState) -> Float[Array, " goal"]:
        """Return the goal that this state achieves: by default the position of `goal_body`, a body or a site."""
        if self.goal_body is None:
            raise ConfigurationError(
                f"task {type(self).__name__} has no achieved goal; set `goal_body`, or define `achieved_goal`"
            )
        return self.position_of(state, self.goal_body)

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


def check_variant(variant: str) -> None:
    """Validate the setting `variant`.

    Raises:
        ConfigurationError: if it is not one of `VARIANTS`.
    """
    if variant not in VARIANTS:
        raise ConfigurationError(f"variant={variant!r} must be one of {', '.join(map(repr, VARIANTS))}")
