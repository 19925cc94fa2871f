"""Edits of the ant's model: contacts with walls and props, and props that slide."""

from typing import Final

import mujoco

LEGS: Final = (1, 2, 3, 4)

# Contact bits. Two geoms touch if the contype of one and the conaffinity of the other share a bit.
FLOOR: Final = 1
"""The floor and everything on it. The paper's variants use this bit for all contacts."""
OBSTACLE: Final = 2
"""Walls and props. A separate bit, so that legs touch walls but neither other legs nor, along their length, the
floor."""


def stop_at_obstacles(spec: mujoco.MjSpec) -> None:
    """Make the ant's torso and legs collide with obstacles.

    Hip and shin capsules include the round ends of stub and foot, which need no contacts of their own.

    Args:
        spec: the model, edited in place.
    """
    for name in ("torso", *(f"{part}_{leg}" for part in ("hip", "shin") for leg in LEGS)):
        spec.geom(name).conaffinity |= OBSTACLE


def add_slides(body: mujoco.MjsBody, name: str, axes: str, **settings: object) -> None:
    """Add slide joints to a body.

    Args:
        body: the body, edited in place.
        name: prefix of the joints' names: `NAME_x`, `NAME_y`, `NAME_z`.
        axes: world axes to slide along, such as `xy`.
        settings: further attributes of each joint.
    """
    for axis in axes:
        body.add_joint(
            name=f"{name}_{axis}",
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=[float(axis == letter) for letter in "xyz"],
            **settings,
        )
