"""Edits of the six-axis arm's model: a cube, squares on the table, and a home pose."""

import math
from collections.abc import Sequence
from typing import Final

import mujoco

CUBE_HALF_EDGE: Final = 0.025
"""Metres."""
CUBE_MASS: Final = 0.05
"""Kilograms."""
GRIPPER_MIDDLE: Final = 0.02
"""Control of the gripper, and position of each finger, at which it is half open: metres."""

SHOULDER: Final = 0.22
"""Height of joint 2, in metres."""
UPPER_ARM, FOREARM, HAND = 0.36, 0.34, 0.18
"""From joint 2 to joint 3, to joint 5, and to the tip, in metres."""


def pointing_down(x: float, z: float) -> tuple[float, ...]:
    """Return the angles of the six joints with the tip at x, 0, z and the gripper pointing down, in radians.

    Args:
        x: metres.
        z: metres.
    """
    height = z + HAND - SHOULDER
    bend = math.acos((x**2 + height**2 - UPPER_ARM**2 - FOREARM**2) / (2.0 * UPPER_ARM * FOREARM))
    lift = math.atan2(x, height) - math.atan2(FOREARM * math.sin(bend), UPPER_ARM + FOREARM * math.cos(bend))
    return (0.0, lift, bend, 0.0, math.pi - lift - bend, 0.0)


def add_cube(spec: mujoco.MjSpec) -> None:
    """Add a free cube, which touches table, gripper and fingers.

    Args:
        spec: the model, edited in place.
    """
    cube = spec.worldbody.add_body(name="cube", pos=[0.45, 0.0, CUBE_HALF_EDGE])
    cube.add_freejoint(name="cube")
    cube.add_geom(
        name="cube",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[CUBE_HALF_EDGE] * 3,
        mass=CUBE_MASS,
        material="cube",
    )
    for other in ("table", "gripper", "left_finger", "right_finger"):
        spec.add_pair(geomname1="cube", geomname2=other)


def add_home(spec: mujoco.MjSpec, joints: Sequence[float], fingers: float, *, cube: Sequence[float] = ()) -> None:
    """Add the keyframe `home`, in which servos hold the arm.

    Args:
        spec: the model, edited in place.
        joints: angles of the six joints, in radians.
        fingers: position of each finger, in metres.
        cube: x, y, z of the cube in metres; empty without one.
    """
    pose = [*cube, 1.0, 0.0, 0.0, 0.0] if cube else []
    spec.add_key(name="home", qpos=[*joints, fingers, fingers, *pose], ctrl=[*joints, GRIPPER_MIDDLE])
