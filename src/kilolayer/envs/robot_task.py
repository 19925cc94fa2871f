"""Tasks for a robot with a body: a MuJoCo model, and where its goals are read, how they are drawn, what success is."""

import inspect
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

from kilolayer.errors import ConfigurationError, nearest_names

Variant = Literal["default", "paper"]
"""`default` is the sound form of a task; `paper` all that the published numbers depend on."""
VARIANTS: Final[tuple[str, ...]] = get_args(Variant)


class Start(eqx.Module):
    """Where an episode begins."""

    qpos: Float[Array, "*num_envs nq"]
    """Joint positions in MuJoCo's order: metres, radians, quaternions as w, x, y, z."""
    qvel: Float[Array, "*num_envs nv"]
    """Joint velocities in MuJoCo's order; of a free joint: linear in world axes, angular in body axes."""


class RobotState(eqx.Module):
    """Robots between two steps: what every engine tells of them, the same for all engines.

    The poses and velocities are those of the bodies that the task names in `bodies`, in that order, and belong to
    `qpos` and `qvel` as they are now.
    """

    qpos: Float[Array, "*num_envs nq"]
    """Joint positions in MuJoCo's order."""
    qvel: Float[Array, "*num_envs nv"]
    """Joint velocities in MuJoCo's order."""
    control: Float[Array, "*num_envs nu"]
    """The control that led here; zeros at the start of an episode."""
    position: Float[Array, "*num_envs bodies 3"]
    """Origin of the body's frame, in metres."""
    quaternion: Float[Array, "*num_envs bodies 4"]
    """Orientation of the body's frame: w, x, y, z."""
    velocity: Float[Array, "*num_envs bodies 3"]
    """Linear velocity of the origin of the body's frame in world axes, in metres per second."""
    angular_velocity: Float[Array, "*num_envs bodies 3"]
    """In world axes, in radians per second."""
    engine: Any
    """What else the engine's next step depends on."""


MARKER_RADIUS = 0.05
"""Metres: of a goal's picture where the task does not say how near is near enough."""


class RobotTask:
    """A goal-reaching task for a robot given as MJCF. Derive from it, and override what differs.

    The least that a task says is its model (`mjcf`, or `build`), how goals are drawn (`reset` or `draw_goal`) and
    where the achieved goal is read (`goal_body`, or `achieved_goal`).

        class Reach(RobotTask):
            mjcf = "arm.xml"
            control_step = 0.05
            goal_body = "hand"
            success_distance = 0.05

            def draw_goal(self, key):
                return jax.random.uniform(key, (3,), minval=-0.3, maxval=0.3)

    All methods below `control` see one robot; the environment maps them over all.

    Raises:
        ConfigurationError: in one line, when an engine takes it: if the model does not compile, `control_step` is no
            multiple of its time step, or a body is named that it does not have.
    """

    mjcf: ClassVar[str | None] = None
    """The model's file; a relative path starts at the folder of the file that defines the class."""
    control_step: float = 0.05
    """Seconds between two actions; a multiple of the model's time step."""
    bodies: Sequence[str] = ()
    """Names of the bodies whose poses and velocities the task reads; `goal_body` need not be among them."""
    goal_body: str | None = None
    """The body whose position is the achieved goal, unless `achieved_goal` is overridden."""
    success_distance: float | None = 0.1
    """The goal is reached below this distance between achieved and desired goal; None: a goal is never reached, only
    approached, which agents that are rewarded for reaching goals cannot learn from."""
    engines: tuple[str, ...] = ("mujoco", "mjx", "spring")
    """Engines that can move the robot; the first is the default on a CPU."""
    variant: str = "default"
    """Form of the task, for tasks that have more than one."""

    @property
    def paper(self) -> bool:
        """Whether this is the paper's variant."""
        return self.variant == "paper"

    def build(self) -> mujoco.MjSpec:
        """Return the model as MuJoCo's editable specification; override to add walls, props or your own edits."""
        if self.mjcf is None:
            raise ConfigurationError(f"task {type(self).__name__} names no model; set `mjcf`, or override `build`")
        path = Path(self.mjcf)
        if not path.is_absolute():
            path = Path(inspect.getfile(type(self))).parent / path
        return load_mjcf(path)

    @cached_property
    def model(self) -> mujoco.MjModel:
        """The compiled model."""
        try:
            model = self.build().compile()
        except (ValueError, mujoco.FatalError) as error:
            raise ConfigurationError(
                f"the model of task {type(self).__name__} does not compile: {_line(error)}"
            ) from None
        # A robot whose state is not finite must show it; MuJoCo would put it back to its start without a word.
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        return model

    @cached_property
    def substeps(self) -> int:
        """Steps of the engine in a control step."""
        timestep = self.model.opt.timestep
        substeps = round(self.control_step / timestep)
        if substeps < 1 or abs(substeps * timestep - self.control_step) > 1e-6:
            raise ConfigurationError(
                f"control_step={self.control_step} s of task {type(self).__name__} is no multiple of the model's time "
                f"step of {timestep} s"
            )
        return substeps

    @cached_property
    def tracked_bodies(self) -> tuple[str, ...]:
        """The bodies that engines report on: `bodies`, and `goal_body` if it is not among them."""
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
        """Return the place of a tracked body in the arrays of `RobotState`."""
        return self.tracked_bodies.index(name)

    @cached_property
    def observation_size(self) -> int:
        """Numbers in an observation, the goal not among them."""
        return int(jax.eval_shape(lambda: self.observe(self._zero_state())).size)

    @cached_property
    def goal_size(self) -> int:
        """Numbers in a goal."""
        return int(jax.eval_shape(lambda: self.achieved_goal(self._zero_state())).size)

    @property
    def action_size(self) -> int:
        """Numbers in an action, each in [-1, 1]: one for each actuator."""
        return int(self.model.nu)

    @cached_property
    def home(self) -> Start:
        """The pose that episodes begin around, at rest: the model's first keyframe, else its zero pose."""
        qpos = self.model.key_qpos[0] if self.model.nkey else self.model.qpos0
        with jax.ensure_compile_time_eval():
            return Start(qpos=jnp.asarray(qpos, jnp.float32), qvel=jnp.zeros(self.model.nv))

    def control(self, action: Float[Array, " action"]) -> Float[Array, " control"]:
        """Turn an action into controls: [-1, 1] onto the range of each actuator that has one."""
        limited = np.asarray(self.model.actuator_ctrllimited, bool)[:, None]
        low, high = jnp.asarray(np.where(limited, self.model.actuator_ctrlrange, (-1.0, 1.0)).T, jnp.float32)
        return 0.5 * (high + low) + 0.5 * (high - low) * action

    def reset(self, key: PRNGKeyArray) -> tuple[Start, Float[Array, " goal"]]:
        """Draw where an episode begins and what it should reach; override if one depends on the other."""
        start_key, goal_key = jax.random.split(key)
        return self.draw_start(start_key), self.draw_goal(goal_key)

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw where an episode begins; by default at `home`."""
        del key
        return self.home

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, " goal"]:
        """Draw what an episode should reach."""
        raise ConfigurationError(f"task {type(self).__name__} does not say how goals are drawn; define `draw_goal`")

    def observe(self, state: RobotState) -> Float[Array, " observation"]:
        """Return what the agent sees: joint positions and velocities, unless overridden."""
        return jnp.concatenate([state.qpos, state.qvel])

    def achieved_goal(self, state: RobotState) -> Float[Array, " goal"]:
        """Return the goal that this state amounts to: the position of `goal_body`, unless overridden."""
        if self.goal_body is None:
            raise ConfigurationError(
                f"task {type(self).__name__} does not say where its goal is read; set `goal_body`, or define "
                "`achieved_goal`"
            )
        return state.position[self.body(self.goal_body)]

    def current_goal(self, state: RobotState, desired_goal: Float[Array, " goal"]) -> Float[Array, " goal"]:
        """Return the desired goal as it is now; override for a goal that moves."""
        del state
        return desired_goal

    def success(self, achieved_goal: Float[Array, " goal"], desired_goal: Float[Array, " goal"]) -> Bool[Array, ""]:
        """Say whether the goal is reached: whether it is nearer than `success_distance`."""
        if self.success_distance is None:
            return jnp.zeros((), bool)
        return jnp.linalg.norm(achieved_goal - desired_goal) < self.success_distance

    def reward(self, achieved_goal: Float[Array, " goal"], desired_goal: Float[Array, " goal"]) -> Float[Array, ""]:
        """Return minus the distance to the goal."""
        return -jnp.linalg.norm(achieved_goal - desired_goal)

    def failed(self, state: RobotState) -> Bool[Array, ""]:
        """Say whether the episode is lost and ends here; by default never."""
        del state
        return jnp.zeros((), bool)

    def marker(self, desired_goal: Float[np.ndarray, " goal"]) -> tuple[Float[np.ndarray, "3"], float]:
        """Return where pictures mark a goal, and the radius of the mark, in metres.

        By default a goal's first three numbers are x, y, z; with fewer, the rest is 0.
        """
        position = np.zeros(3, np.float32)
        position[: min(3, len(desired_goal))] = desired_goal[:3]
        return position, self.success_distance or MARKER_RADIUS

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
    """Turn a vector of a body's frame into world axes, by the body's quaternion (w, x, y, z)."""
    w, axis = quaternion[0], quaternion[1:]
    return vector + 2 * jnp.cross(axis, jnp.cross(axis, vector) + w * vector)


def check_variant(variant: str) -> None:
    """Refuse a variant that no task has.

    Raises:
        ConfigurationError: in one line, if it is none of `VARIANTS`.
    """
    if variant not in VARIANTS:
        raise ConfigurationError(f"variant={variant!r} must be one of {', '.join(map(repr, VARIANTS))}")


def load_mjcf(path: Path) -> mujoco.MjSpec:
    """Read a model.

    Raises:
        ConfigurationError: if the file is missing or is no MJCF.
    """
    if not path.is_file():
        raise ConfigurationError(f"model file {str(path)!r} is missing")
    try:
        return mujoco.MjSpec.from_file(str(path))
    except (ValueError, mujoco.FatalError) as error:
        raise ConfigurationError(f"model file {str(path)!r} cannot be read: {_line(error)}") from None


def _line(error: Exception) -> str:
    """Return an error's text in one line."""
    return " ".join(str(error).split())
