"""Goals of where bodies and sites are, and how they are turned."""

from collections.abc import Sequence

import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

from kilolayer.envs.drawing import Ghost, Mark
from kilolayer.envs.goals.part import Goal, check_axes, check_radius
from kilolayer.envs.names import xyz
from kilolayer.envs.quaternions import matrix_distance, matrix_from_six, to_six
from kilolayer.envs.robot_state import RobotState
from kilolayer.envs.tracking import Tracking
from kilolayer.errors import ConfigurationError

SIX = 6
"""Numbers that give a rotation: the first two columns of its matrix."""


class PositionGoal(Goal):
    """Where bodies or sites are. Reached when their distance is below `radius`.

    Of several it is the root of the mean of the squared distances, each with its weight. Give every one a radius of its
    own by several goals: `goal = (PositionGoal("left", radius=0.05), PositionGoal("right", radius=0.1))`.
    """

    def __init__(self, *places: str, radius: float, axes: str = "xyz", weights: Sequence[float] | None = None):
        """Create a goal.

        Args:
            places: names of bodies or sites.
            radius: metres.
            axes: which coordinates count, such as `xy` for where a robot stands.
            weights: of the places, each above 0; None weighs all alike.

        Raises:
            ConfigurationError: naming the argument, its value and what would be valid.
        """
        if not places:
            raise ConfigurationError("PositionGoal names no body or site; name at least one")
        self._places = places
        self.radius = check_radius(self, "radius", radius, "metres")
        self.axes = check_axes(self, axes)
        self.weights = tuple(weights) if weights is not None else (1.0,) * len(places)
        if len(self.weights) != len(places) or not all(weight > 0.0 for weight in self.weights):
            raise ConfigurationError(
                f"PositionGoal: weights={weights!r} must be a number above 0 for each of {len(places)} places"
            )

    @property
    def places(self) -> tuple[str, ...]:
        """Names of the bodies and sites that are read."""
        return self._places

    def names(self, task: Tracking) -> tuple[str, ...]:
        """Return the name of each entry, with its unit."""
        del task
        return tuple(name for place in self.places for name in xyz(place, axes=self.axes))

    def read(self, task: Tracking, state: RobotState) -> Float[Array, " entries"]:
        """Return the coordinates of all places, one place after another, in metres."""
        chosen = np.array(["xyz".index(axis) for axis in self.axes])
        return jnp.concatenate([task.position_of(state, place)[chosen] for place in self.places])

    def errors(
        self, task: Tracking, achieved: Float[Array, " entries"], desired: Float[Array, " entries"]
    ) -> Float[Array, "1"]:
        """Return the distance as a share of the radius."""
        del task
        share = jnp.asarray(self.weights) / sum(self.weights)
        apart = (achieved - desired).reshape(len(self.places), len(self.axes))
        return jnp.sqrt(jnp.sum(share * jnp.sum(apart**2, axis=-1), keepdims=True)) / self.radius

    def text(self, task: Tracking) -> str:
        """Return when it is reached, in words."""
        del task
        among = f" in {self.axes}" if self.axes != "xyz" else ""
        names = ", ".join(self.places)
        if len(self.places) == 1:
            return f"{names} within {self.radius:g} m{among}"
        weighted = (
            " (weights " + ", ".join(f"{one:g}" for one in self.weights) + ")" if len(set(self.weights)) > 1 else ""
        )
        return f"{names}{weighted} within {self.radius:g} m{among} in the root of the mean square"

    def mark(self, task: Tracking, desired: Float[np.ndarray, " entries"]) -> Mark | None:
        """Return where the first place is to be."""
        del task
        position = np.zeros(3, np.float32)
        for number, axis in enumerate(self.axes):
            position["xyz".index(axis)] = desired[number]
        return position, self.radius


class RotationGoal(Goal):
    """How a body or site is turned. Reached when the angle of the rotation between both is below `angle`.

    A quaternion q and -q are the same. The six entries are the first two columns of the matrix of the rotation: unlike
    quaternions and angles they nowhere jump, so that a network sees near rotations as near numbers.

    Source: Zhou et al. 2019, On the Continuity of Rotation Representations in Neural Networks.
    """

    def __init__(self, place: str, *, angle: float):
        """Create a goal.

        Args:
            place: name of a body or site.
            angle: radians.

        Raises:
            ConfigurationError: naming the argument, its value and what would be valid.
        """
        self.place = place
        self.angle = check_radius(self, "angle", angle, "radians")

    @property
    def places(self) -> tuple[str, ...]:
        """Names of the bodies and sites that are read."""
        return (self.place,)

    def names(self, task: Tracking) -> tuple[str, ...]:
        """Return the name of each entry."""
        del task
        return rotation_names(self.place)

    def read(self, task: Tracking, state: RobotState) -> Float[Array, "6"]:
        """Return the rotation as six numbers."""
        return to_six(task.quaternion_of(state, self.place))

    def errors(self, task: Tracking, achieved: Float[Array, "6"], desired: Float[Array, "6"]) -> Float[Array, "1"]:
        """Return the angle as a share of its radius."""
        del task
        return six_distance(achieved, desired)[None] / self.angle

    def text(self, task: Tracking) -> str:
        """Return when it is reached, in words."""
        del task
        return f"{self.place} turned within {self.angle:g} rad"


class PoseGoal(Goal):
    """Where a body or site is, and how it is turned: within `radius` and within `angle`.

    The nine entries are those of a `PositionGoal` and a `RotationGoal`.
    """

    def __init__(self, place: str, *, radius: float, angle: float):
        """Create a goal.

        Args:
            place: name of a body or site.
            radius: metres.
            angle: radians.

        Raises:
            ConfigurationError: naming the argument, its value and what would be valid.
        """
        self.place = place
        self.radius = check_radius(self, "radius", radius, "metres")
        self.angle = check_radius(self, "angle", angle, "radians")

    @property
    def places(self) -> tuple[str, ...]:
        """Names of the bodies and sites that are read."""
        return (self.place,)

    def names(self, task: Tracking) -> tuple[str, ...]:
        """Return the name of each entry, with its unit."""
        del task
        return (*xyz(self.place), *rotation_names(self.place))

    def read(self, task: Tracking, state: RobotState) -> Float[Array, "9"]:
        """Return position (m) and rotation (six numbers)."""
        return jnp.concatenate([task.position_of(state, self.place), to_six(task.quaternion_of(state, self.place))])

    def errors(self, task: Tracking, achieved: Float[Array, "9"], desired: Float[Array, "9"]) -> Float[Array, "2"]:
        """Return the distance and the angle, each as a share of its radius."""
        del task
        away = jnp.linalg.norm(achieved[:3] - desired[:3])
        return jnp.stack([away / self.radius, six_distance(achieved[3:], desired[3:]) / self.angle])

    def text(self, task: Tracking) -> str:
        """Return when it is reached, in words."""
        del task
        return f"{self.place} within {self.radius:g} m and {self.angle:g} rad"

    def mark(self, task: Tracking, desired: Float[np.ndarray, "9"]) -> Mark | None:
        """Return where the place is to be."""
        del task
        return np.asarray(desired[:3], np.float32), self.radius

    def ghost(self, task: Tracking, desired: Float[np.ndarray, "9"]) -> Ghost | None:
        """Return the body, or that of the site, in the pose that the goal asks for."""
        position, quaternion = np.asarray(desired[:3], np.float64), quaternion_from_six(desired[3:])
        if self.place in task.tracked_bodies:
            return Ghost(poses={self.place: (position, quaternion)})
        site = task.model.site(self.place)
        back, turned, lever = np.zeros(4), np.zeros(4), np.zeros(3)
        mujoco.mju_negQuat(back, site.quat)
        mujoco.mju_mulQuat(turned, quaternion, back)
        mujoco.mju_rotVecQuat(lever, site.pos, turned)
        name = task.model.body(int(site.bodyid[0])).name
        return Ghost(poses={name: (position - lever, turned)}) if name and name != "world" else None


def rotation_names(owner: str) -> tuple[str, ...]:
    """Return the names of the six numbers of a rotation: the x axis and the y axis of what is turned, in world axes."""
    return tuple(f"{owner} {axis} axis along {component}" for axis in "xy" for component in "xyz")


def quaternion_from_six(six: Float[np.ndarray, "6"]) -> Float[np.ndarray, "4"]:
    """Return the quaternion of a rotation of six numbers: w, x, y, z."""
    quaternion = np.zeros(4)
    matrix = np.asarray(matrix_from_six(jnp.asarray(six, jnp.float32)), np.float64)
    mujoco.mju_mat2Quat(quaternion, matrix.ravel())
    return quaternion


def six_distance(first: Float[Array, "*#batch 6"], second: Float[Array, "*#batch 6"]) -> Float[Array, "*batch"]:
    """Return the angle between two rotations of six numbers, in radians."""
    return matrix_distance(matrix_from_six(first), matrix_from_six(second))
