"""The humanoid's bodies and motors, and the goal as a body of its model."""

from typing import Final

import mujoco

LINKS: Final = (
    "torso",
    "lwaist",
    "pelvis",
    "right_thigh",
    "right_shin",
    "left_thigh",
    "left_shin",
    "right_upper_arm",
    "right_lower_arm",
    "left_upper_arm",
    "left_lower_arm",
)
"""The moving bodies, in the order of the observation."""

SPRING_GEARS: Final = (350.0,) * 11 + (100.0,) * 6
"""Torque (N m) for a control of 1 in the paper's variant: trunk and legs, then arms."""


def add_target(spec: mujoco.MjSpec, *, height: float, reach: float) -> None:
    """Add the goal as a body `target` that slides in the plane and collides with nothing.

    Args:
        spec: the model, edited in place.
        height: z of the body, in metres.
        reach: limit of both slide joints, in metres.
    """
    target = spec.worldbody.add_body(name="target", pos=[0.0, 0.0, height])
    for name, axis in (("target_x", [1.0, 0.0, 0.0]), ("target_y", [0.0, 1.0, 0.0])):
        target.add_joint(
            name=name,
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=axis,
            limited=mujoco.mjtLimited.mjLIMITED_TRUE,
            range=[-reach, reach],
            armature=0.0,
            damping=0.0,
            stiffness=0.0,
        )
    target.add_geom(
        name="target",
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        size=[0.5, 0.0, 0.0],
        mass=1.0,
        contype=0,
        conaffinity=0,
        rgba=[0.16, 0.62, 0.56, 0.25],
        material="",
    )
