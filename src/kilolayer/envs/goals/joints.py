"""Goals of joints: their positions, and the whole state of a robot."""

import dataclasses
from collections.abc import Iterator

import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float

from kilolayer.envs.drawing import Ghost
from kilolayer.envs.goals.part import Goal, check_radius
from kilolayer.envs.goals.places import quaternion_from_six, rotation_names, six_distance
from kilolayer.envs.names import velocity_names, xyz
from kilolayer.envs.quaternions import to_six, unit
from kilolayer.envs.robot_state import RobotState
from kilolayer.envs.tracking import Tracking
from kilolayer.errors import ConfigurationError, nearest_names


@dataclasses.dataclass(frozen=True)
class Joint:
    """A joint of a model, as a goal sees it."""

    name: str
    kind: str
    """`slide`, `angle` for a hinge with a range, `circle` for one without, `ball` or `free`."""
    place: int
    """Of its first number in `qpos`."""

    def names(self) -> tuple[str, ...]:
        """Return the name of each entry, with its unit."""
        match self.kind:
            case "slide":
                return (f"{self.name} position (m)",)
            case "angle":
                return (f"{self.name} angle (rad)",)
            case "circle":
                return (f"cosine of {self.name} angle", f"sine of {self.name} angle")
            case "ball":
                return rotation_names(self.name)
            case _:
                return (*xyz(self.name), *rotation_names(self.name))

    def read(self, qpos: Float[Array, " nq"]) -> Float[Array, " entries"]:
        """Return its entries."""
        first = self.place
        match self.kind:
            case "slide" | "angle":
                return qpos[first : first + 1]
            case "circle":
                return jnp.stack([jnp.cos(qpos[first]), jnp.sin(qpos[first])])
            case "ball":
                return to_six(unit(qpos[first : first + 4]))
            case _:
                return jnp.concatenate([qpos[first : first + 3], to_six(unit(qpos[first + 3 : first + 7]))])

    def write(self, entries: Float[np.ndarray, " entries"], qpos: Float[np.ndarray, " nq"]) -> None:
        """Write the joint positions that entries stand for into those of a model."""
        first = self.place
        match self.kind:
            case "slide" | "angle":
                qpos[first] = entries[0]
            case "circle":
                qpos[first] = np.arctan2(entries[1], entries[0])
            case "ball":
                qpos[first : first + 4] = quaternion_from_six(entries)
            case _:
                qpos[first : first + 3] = entries[:3]
                qpos[first + 3 : first + 7] = quaternion_from_six(entries[3:])

    def apart(self, one: Float[Array, " entries"], other: Float[Array, " entries"]) -> Iterator[tuple[bool, Array]]:
        """Yield how far apart two positions are, each with whether it is a length (m) and not an angle (rad)."""
        match self.kind:
            case "slide" | "angle":
                yield self.kind == "slide", jnp.abs(one[0] - other[0])
            case "circle":
                across = one[1] * other[0] - one[0] * other[1]
                yield False, jnp.abs(jnp.arctan2(across, jnp.sum(one * other)))
            case "ball":
                yield False, six_distance(one, other)
            case _:
                yield True, jnp.linalg.norm(one[:3] - other[:3])
                yield False, six_distance(one[3:], other[3:])


class JointGoal(Goal):
    """Where joints are: each within `radius` if it slides, and within `angle` if it turns.

    A hinge without a range is given by cosine and sine of its angle, as a full turn is no way; a ball joint by the six
    numbers of a `RotationGoal`; a free joint by position and six numbers.
    """

    def __init__(self, *joints: str, radius: float | None = None, angle: float | None = None):
        """Create a goal.

        Args:
            joints: names; none takes every joint of the model.
            radius: metres, for joints that slide, and free ones.
            angle: radians, for all that turn.

        Raises:
            ConfigurationError: naming the argument, its value and what would be valid.
        """
        self.joints = joints
        self.radius = None if radius is None else check_radius(self, "radius", radius, "metres")
        self.angle = None if angle is None else check_radius(self, "angle", angle, "radians")

    def check(self, task: Tracking) -> None:
        """Check that the joints exist, and that each of them, and only they, have a radius.

        Raises:
            ConfigurationError: naming the joint, or the argument.
        """
        model, kind = task.model, type(self).__name__
        known = [model.joint(number).name for number in range(model.njnt)]
        for name in self.joints:
            if name not in known:
                raise ConfigurationError(
                    f"task {type(task).__name__}: {kind} names the joint {name!r}, which its model does not have; "
                    f"{nearest_names(name, known, listing=f'there are {len(known)}')}"
                )
        found = self._joints(task)
        needed = {
            "radius": [joint.name for joint in found if joint.kind in ("slide", "free")],
            "angle": [joint.name for joint in found if joint.kind != "slide"],
        }
        _check_given(self, task, needed)

    def _joints(self, task: Tracking) -> list[Joint]:
        model = task.model
        numbers = [model.joint(name).id for name in self.joints] or range(model.njnt)
        return [_joint(model, int(number)) for number in numbers]

    def names(self, task: Tracking) -> tuple[str, ...]:
        """Return the name of each entry, with its unit."""
        return tuple(name for joint in self._joints(task) for name in joint.names())

    def read(self, task: Tracking, state: RobotState) -> Float[Array, " entries"]:
        """Return the positions of all joints, one after another."""
        return jnp.concatenate([joint.read(state.qpos) for joint in self._joints(task)])

    def errors(
        self, task: Tracking, achieved: Float[Array, " entries"], desired: Float[Array, " entries"]
    ) -> Float[Array, " errors"]:
        """Return how far apart each joint is, as a share of its radius."""
        found: list[Array] = []
        first = 0
        for joint in self._joints(task):
            entries = slice(first, first + len(joint.names()))
            for is_length, apart in joint.apart(achieved[entries], desired[entries]):
                radius = self.radius if is_length else self.angle
                found.append(apart / (1.0 if radius is None else radius))
            first = entries.stop
        return jnp.stack(found)

    def ghost(self, task: Tracking, desired: Float[np.ndarray, " entries"]) -> Ghost | None:
        """Return the robot with its joints as the goal has them, all others as at the start."""
        qpos = np.full(int(task.model.nq), np.nan)
        first = 0
        for joint in self._joints(task):
            joint.write(desired[first : first + len(joint.names())], qpos)
            first += len(joint.names())
        return Ghost(qpos=qpos)

    def text(self, task: Tracking) -> str:
        """Return when it is reached, in words."""
        del task
        within = [f"{value:g} {unit}" for value, unit in ((self.radius, "m"), (self.angle, "rad")) if value is not None]
        return f"{', '.join(self.joints) or 'every joint'} within {' and '.join(within)}"


class StateGoal(JointGoal):
    """The whole state: positions and velocities of all joints. Each has to be within its radius.

    Goals that are drawn by `reachable` are at rest.
    """

    def __init__(
        self,
        *,
        radius: float | None = None,
        angle: float | None = None,
        speed: float | None = None,
        rate: float | None = None,
    ):
        """Create a goal.

        Args:
            radius: metres, for joints that slide, and free ones.
            angle: radians, for all that turn.
            speed: metres per second, for joints that slide, and free ones.
            rate: radians per second, for all that turn.

        Raises:
            ConfigurationError: naming the argument, its value and what would be valid.
        """
        super().__init__(radius=radius, angle=angle)
        self.speed = None if speed is None else check_radius(self, "speed", speed, "metres per second")
        self.rate = None if rate is None else check_radius(self, "rate", rate, "radians per second")

    def check(self, task: Tracking) -> None:
        """Check that all kinds of joints that the model has, and only they, have radii."""
        super().check(task)
        names, linear = velocity_names(task.model), _linear(task.model)
        needed = {
            "speed": [name for name, is_linear in zip(names, linear, strict=True) if is_linear],
            "rate": [name for name, is_linear in zip(names, linear, strict=True) if not is_linear],
        }
        _check_given(self, task, needed)

    def names(self, task: Tracking) -> tuple[str, ...]:
        """Return the name of each entry, with its unit."""
        return (*super().names(task), *velocity_names(task.model))

    def read(self, task: Tracking, state: RobotState) -> Float[Array, " entries"]:
        """Return the positions of all joints, then their velocities."""
        return jnp.concatenate([super().read(task, state), state.qvel])

    def errors(
        self, task: Tracking, achieved: Float[Array, " entries"], desired: Float[Array, " entries"]
    ) -> Float[Array, " errors"]:
        """Return how far apart each joint is, then each velocity, as a share of its radius."""
        positions = achieved.shape[0] - int(task.model.nv)
        places = super().errors(task, achieved[:positions], desired[:positions])
        radii = np.where(_linear(task.model), self.speed or 1.0, self.rate or 1.0).astype(np.float32)
        return jnp.concatenate([places, jnp.abs(achieved[positions:] - desired[positions:]) / radii])

    def text(self, task: Tracking) -> str:
        """Return when it is reached, in words."""
        radii = ((self.speed, "m/s"), (self.rate, "rad/s"))
        within = [f"{value:g} {unit}" for value, unit in radii if value is not None]
        return f"{super().text(task)}, its velocity within {' and '.join(within)}"


def _joint(model: mujoco.MjModel, number: int) -> Joint:
    kinds = {
        mujoco.mjtJoint.mjJNT_SLIDE: "slide",
        mujoco.mjtJoint.mjJNT_BALL: "ball",
        mujoco.mjtJoint.mjJNT_FREE: "free",
    }
    kind = kinds.get(mujoco.mjtJoint(model.jnt_type[number]), "angle" if model.jnt_limited[number] else "circle")
    body = int(model.jnt_bodyid[number])
    name = model.joint(number).name or f"joint {number}"
    if kind == "free":
        name = model.body(body).name or f"body {body}"
    return Joint(name, kind, int(model.jnt_qposadr[number]))


def _linear(model: mujoco.MjModel) -> Bool[np.ndarray, " nv"]:
    """Return which degrees of freedom are lengths, and not angles."""
    kinds = model.jnt_type[model.dof_jntid]
    free = (kinds == mujoco.mjtJoint.mjJNT_FREE) & (np.arange(model.nv) - model.jnt_dofadr[model.dof_jntid] < 3)
    return free | (kinds == mujoco.mjtJoint.mjJNT_SLIDE)


def _check_given(goal: Goal, task: Tracking, needed: dict[str, list[str]]) -> None:
    """Check that radii are given for all kinds of motion that the goal has, and for no others."""
    owner = f"task {type(task).__name__}: {type(goal).__name__}"
    for argument, names in needed.items():
        value = getattr(goal, argument)
        if names and value is None:
            raise ConfigurationError(f"{owner} needs {argument}=, the radius of success for {', '.join(names[:3])}")
        if not names and value is not None:
            raise ConfigurationError(f"{owner}: {argument}={value:g} has no effect on these joints; leave it out")
