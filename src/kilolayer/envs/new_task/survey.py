"""What a task for a model may begin with: the body that carries the goal, goals in its reach, times and distances."""

import dataclasses
import math
import warnings
from collections.abc import Callable

import mujoco
import numpy as np
from jaxtyping import Float

from kilolayer.errors import ConfigurationError

SAMPLES = 2000
"""Poses that the reach of a body is measured with."""

SPAN = 3.0
"""How far a robot whose base moves is to go, in multiples of its radius."""

WITHIN = (10.0, 90.0)
"""Percentiles of the places of a body between which goals lie."""

ARM_STEP, BASE_STEP = 0.05, 0.02
"""About how many seconds lie between two actions of an arm, and of a robot that balances."""

SHARE = 0.07
"""Success distance of an arm, as a share of the diagonal of the box of goals."""


NOISES = (0.3, 0.1, 0.0)
"""Standard deviations of poses around the start in which actuators are looked at, in radians or metres."""

STILL = 1e-2
"""Diagonal of the box of a body that stays where it is, as a share of the robot's radius."""


@dataclasses.dataclass(frozen=True)
class Survey:
    """What to begin a task with."""

    goal_body: str
    """Name of the body whose position is the goal."""
    because: str
    """Why this body."""
    offset: tuple[float, ...] | None
    """Point in the body's frame that is the goal, in metres; None for its origin, unless that is where it turns."""
    moves: bool
    """Whether the robot's base moves."""
    low: tuple[float, ...]
    """Least x, y, z of a goal, in metres."""
    high: tuple[float, ...]
    """Greatest x, y, z of a goal, in metres."""
    success_distance: float
    """In metres."""
    control_step: float
    """Seconds between two actions."""
    substeps: int
    """Time steps of the model in a control step."""


def survey(model: mujoco.MjModel) -> Survey:
    """Look at a model.

    Raises:
        ConfigurationError: if no actuator moves a body, no body on the way has a name, or the model has no time step.
    """
    timestep = float(model.opt.timestep)
    if not timestep > 0.0:
        raise ConfigurationError(f"the model has a time step of {timestep} s; set <option timestep=...>")
    robot = _Robot(model)
    body, because = robot.goal_body()
    offset = robot.tip(body) if robot.turns_on_itself(body) else None
    low, high = robot.box(body, np.zeros(3) if offset is None else offset)
    if math.dist(low, high) < STILL * robot.radius:
        raise ConfigurationError(f"the actuators leave body {model.body(body).name!r} where it is")
    distance = 0.5 * robot.radius if robot.moves else SHARE * math.dist(low, high)
    substeps = max(1, round((BASE_STEP if robot.moves else ARM_STEP) / timestep))
    return Survey(
        goal_body=model.body(body).name,
        because=because,
        offset=None if offset is None else tuple(_rounded(offset)),
        moves=robot.moves,
        low=low,
        high=high,
        success_distance=_one_digit(max(distance, 1e-3)),
        control_step=round(substeps * timestep, 10),
        substeps=substeps,
    )


class _Robot:
    """The part of a model that actuators drive."""

    def __init__(self, model: mujoco.MjModel):
        self.model, self.data = model, mujoco.MjData(model)
        if model.nkey:
            mujoco.mj_resetDataKeyframe(model, self.data, 0)
        self.home = self.data.qpos.copy()
        self._driven = self._driven_dofs()
        of_dof = model.dof_bodyid[self._driven]
        if not of_dof.size:
            raise ConfigurationError("no actuator of the model moves a body, so there is nothing to set goals for")
        roots, counts = np.unique(model.body_rootid[of_dof], return_counts=True)
        self.root = int(roots[counts.argmax()])
        self.moves = any(self._carries(joint) for joint in self._joints(self.root))

    def _driven_dofs(self) -> np.ndarray:
        """Return the degrees of freedom on which some actuator acts, at home or near it; leaves the robot at home."""
        model, data, found = self.model, self.data, set()
        rng = np.random.default_rng(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MuJoCo's, of a pose that is not a start
            for noise in NOISES:  # a tendon may pull along a straight arm
                data.qpos[:] = self.home
                mujoco.mj_integratePos(model, data.qpos, rng.normal(size=model.nv), noise)
                mujoco.mj_forward(model, data)
                for begin, count in zip(data.moment_rowadr.ravel(), data.moment_rownnz.ravel(), strict=True):
                    row = slice(int(begin), int(begin + count))
                    acts = data.actuator_moment.ravel()[row] != 0.0
                    found |= set(data.moment_colind.ravel()[row][acts].tolist())
        return np.array(sorted(found), int)

    def _joints(self, body: int) -> range:
        begin = int(self.model.body_jntadr[body])
        return range(begin, begin + int(self.model.body_jntnum[body])) if begin >= 0 else range(0)

    def _kind(self, joint: int) -> mujoco.mjtJoint:
        return mujoco.mjtJoint(self.model.jnt_type[joint])

    def _is_driven(self, joint: int) -> bool:
        return bool(np.isin(self.model.jnt_dofadr[joint], self._driven))

    def _carries(self, joint: int) -> bool:
        """Return whether a joint of the root lets all of the robot go away: free, or a slide that nothing drives."""
        kind = self._kind(joint)
        return kind == mujoco.mjtJoint.mjJNT_FREE or (
            kind == mujoco.mjtJoint.mjJNT_SLIDE and not self._is_driven(joint)
        )

    @property
    def radius(self) -> float:
        """Distance from the origin of the root to the farthest point of the robot, in metres."""
        model, own = self.model, self.model.body_rootid[self.model.geom_bodyid] == self.root
        if not own.any():
            return 0.5
        away = np.linalg.norm(self.data.geom_xpos[own] - self.data.xpos[self.root], axis=-1)
        return float((away + model.geom_rbound[own]).max())

    def _children(self, body: int, having: Callable[[int], bool]) -> list[int]:
        """Return the children below or at which some body satisfies a condition."""
        parent = self.model.body_parentid
        return [
            child
            for child in range(body + 1, self.model.nbody)
            if parent[child] == body and any(having(each) for each in self._below(child))
        ]

    def _below(self, top: int) -> list[int]:
        found = [top]
        for body in range(top + 1, self.model.nbody):
            if int(self.model.body_parentid[body]) in found:
                found.append(body)
        return found

    def _above(self, body: int) -> list[int]:
        """Return a body and its ancestors, up to the root of its tree."""
        found = []
        while body:
            found.append(body)
            body = int(self.model.body_parentid[body])
        return found

    def _drives(self, body: int) -> bool:
        return any(self._is_driven(joint) for joint in self._joints(body))

    def goal_body(self) -> tuple[int, str]:
        """Return the body whose position is a good goal, and why it is."""
        if self.moves:
            return self._named([self.root, *self._below(self.root)], "the robot's base, which can go anywhere")
        body, because = self.root, "the last body of the chain that the actuators move"
        while True:
            is_moved = any(self._drives(each) for each in self._above(body))
            with_joints = self._children(body, lambda each: self.model.body_jntnum[each] > 0)
            if is_moved and len(with_joints) > 1:
                because = "the last body before the chain branches, as a hand before its fingers"
                break
            driven = self._children(body, self._drives)
            if driven:
                body = max(driven, key=lambda child: sum(map(self._drives, self._below(child))))
                continue
            rest = with_joints or self._children(body, lambda each: True)
            if len(rest) != 1:
                break
            body = rest[0]
        moved = [each for each in self._above(body) if any(self._drives(higher) for higher in self._above(each))]
        return self._named([*moved, *self._below(body)], because)

    def _named(self, bodies: list[int], because: str) -> tuple[int, str]:
        """Return the first of some bodies that has a name."""
        for body in bodies:
            if self.model.body(body).name:
                return body, because
        raise ConfigurationError("the bodies that the actuators move have no names; name the one that carries the goal")

    def turns_on_itself(self, body: int) -> bool:
        """Return whether a driven joint turns a body of an arm about its own origin, which it leaves where it is."""
        turning = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_BALL)
        return not self.moves and any(
            self._is_driven(joint)
            and self._kind(joint) in turning
            and np.linalg.norm(self.model.jnt_pos[joint]) < STILL * self.radius
            for joint in self._joints(body)
        )

    def tip(self, body: int) -> Float[np.ndarray, "3"] | None:
        """Return the far end of a body in its own frame: its last site, or where its farthest geom ends.

        None if it has neither, or if that is its origin.
        """
        model, own = self.model, np.flatnonzero(self.model.geom_bodyid == body)
        sites = np.flatnonzero(model.site_bodyid == body)
        if sites.size:
            end = model.site_pos[sites[-1]].copy()
        elif own.size:
            geom = own[np.linalg.norm(model.geom_pos[own], axis=-1).argmax()]
            axis = model.geom_pos[geom] / max(float(np.linalg.norm(model.geom_pos[geom])), mujoco.mjMINVAL)
            turn = np.zeros(9)
            mujoco.mju_quat2Mat(turn, model.geom_quat[geom])
            middle, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
            along = turn.reshape(3, 3).T @ axis
            end = axis * (axis @ model.geom_pos[geom] + along @ middle + np.abs(along) @ half)
        else:
            return None
        return end if np.linalg.norm(end) > STILL * self.radius else None

    def box(self, body: int, offset: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return least and greatest x, y, z of goals: between the places of a point of a body in random poses."""
        rng = np.random.default_rng(0)
        places = np.array([self._place(body, offset, rng) for _ in range(SAMPLES)])
        planes = np.flatnonzero(self.model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE)
        if planes.size and not self.moves:
            above = places[places[:, 2] > self.data.geom_xpos[planes[-1], 2] + 0.02 * self.radius]
            places = above if len(above) > SAMPLES // 20 else places
        low, high = np.percentile(places, (0.0, 100.0) if self.moves else WITHIN, axis=0)
        return tuple(_rounded(low)), tuple(_rounded(high))

    def _place(self, body: int, offset: np.ndarray, rng: np.random.Generator) -> Float[np.ndarray, "3"]:
        """Return where a point of a body is, in a random pose of the joints that are driven or carry the base."""
        self.data.qpos[:] = self.home
        for above in self._above(body):
            for joint in self._joints(above):
                self._draw(joint, rng)
        mujoco.mj_kinematics(self.model, self.data)
        return self.data.xpos[body] + self.data.xmat[body].reshape(3, 3) @ offset

    def _draw(self, joint: int, rng: np.random.Generator) -> None:
        model, kind, at = self.model, self._kind(joint), int(self.model.jnt_qposadr[joint])
        if self.moves:  # over the ground, as high as it stands
            away = rng.uniform(-1.0, 1.0, 2) * SPAN * self.radius
            if kind == mujoco.mjtJoint.mjJNT_FREE:
                self.data.qpos[at : at + 2] += away
            elif kind == mujoco.mjtJoint.mjJNT_SLIDE and abs(model.jnt_axis[joint, 2]) < 0.5:
                self.data.qpos[at] += away[0]
            return
        if not self._is_driven(joint):
            return
        if kind == mujoco.mjtJoint.mjJNT_BALL:
            turn = rng.normal(size=4)
            self.data.qpos[at : at + 4] = turn / np.linalg.norm(turn)
        elif kind in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE):
            low, high = model.jnt_range[joint] if model.jnt_limited[joint] else (-math.pi, math.pi)
            self.data.qpos[at] = rng.uniform(low, high)


def _rounded(numbers: np.ndarray) -> list[float]:
    return [round(float(number), 3) + 0.0 for number in numbers]


def _one_digit(number: float) -> float:
    """Round a number above 0 to one digit."""
    return float(f"{number:.0e}")
