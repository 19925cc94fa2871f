"""Scenes of the Panda arm: the robot's model, and edits that add cubes, bins and marks on the table."""

from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np

from kilolayer.envs.robots.mjcf import load_mjcf, model_file

MODEL = Path(model_file("panda"))

HOME: dict[str, tuple[float, ...]] = {
    "default": (1.571, 0.742, 0.0, -1.571, 0.0, 3.054, 0.7854),
    "paper": (1.571, 0.742, 0.0, -1.571, 0.0, 3.054, 1.449),
}
"""Angles of the arm's joints at the start of an episode, in radians.

The paper's arm turns joint 7 to 0.724 within half a second, so that the hand is almost square to the arm (0.785). In
the default variant it begins and stays at 0.785.
"""
FINGER_HOME = 0.04
"""Opening of each finger at the start of an episode, in metres."""
CUBE_HALF_EDGE = 0.03
"""Metres."""
CUBE_START_HEIGHT = 0.07
"""Height of the cube's centre at the start of an episode, in metres; on the table it is 0.03."""

PAPER_GAINS = {"joint3": 2000.0, "joint4": 2000.0, "joint5": 1000.0, "joint6": 1000.0, "joint7": 1000.0}
"""Actuator gains of the paper's arm. They are below the stiffness, so joints rest short of their targets."""
PAPER_UNLIMITED = ("joint1", "joint3", "joint5", "joint7")
"""Joints of the paper's arm without limits."""
PAPER_FINGER_ARMATURE = 0.1
"""Kilograms."""

START_ZONE_RGBA = (0.62, 0.72, 0.86, 1.0)
GOAL_ZONE_RGBA = (0.64, 0.82, 0.66, 1.0)


def panda(variant: str, *, gripper: bool = True, cube: bool = False) -> mujoco.MjSpec:
    """Return the arm on its table.

    Args:
        variant: "default" is the model file unchanged. "paper" is what the paper's code simulates: joints without
            armature and damping, and without limits except for joints 2, 4 and 6; gains of joints 3 to 7 below their
            stiffness; integrator implicitfast.
        gripper: whether the arm has fingers; the hand remains without them.
        cube: whether there is a free cube of 6 cm and 216 g, which collides with table, hand and fingers. It is the
            last body by default. In "paper" it is the first, so that contacts have the sides that they have there.
    """
    spec = _with_first_body("cube") if cube and variant == "paper" else load_mjcf(MODEL)
    if variant == "paper":
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        for joint in spec.joints:
            finger = joint.name.endswith("finger")
            joint.armature = PAPER_FINGER_ARMATURE if finger else 0.0
            if not finger:
                joint.damping = np.zeros(3)
            if joint.name in PAPER_UNLIMITED:
                joint.limited = mujoco.mjtLimited.mjLIMITED_FALSE
        for name, gain in PAPER_GAINS.items():
            spec.actuator(name).gainprm[0] = gain
    if not gripper:  # MuJoCo deletes the fingers' actuators, contact pairs and equality with them.
        spec.delete(spec.body("left_finger"))
        spec.delete(spec.body("right_finger"))
    if cube:
        _fill_cube(spec, spec.body("cube") or spec.worldbody.add_body(name="cube"))
    return spec


def _with_first_body(name: str) -> mujoco.MjSpec:
    """Return the model with an empty body before all others, where MuJoCo's edits cannot add one."""
    tree = ElementTree.fromstring(MODEL.read_text(encoding="utf-8"))
    world = tree.find("worldbody")
    assert world is not None
    world.insert(0, ElementTree.Element("body", name=name))
    return mujoco.MjSpec.from_string(ElementTree.tostring(tree, encoding="unicode"))


def _fill_cube(spec: mujoco.MjSpec, cube: mujoco.MjsBody) -> None:
    cube.add_freejoint(name="cube")
    half = CUBE_HALF_EDGE
    cube.add_geom(name="cube", type=mujoco.mjtGeom.mjGEOM_BOX, size=[half, half, half], mass=0.216, material="cube")
    for other in ("table", "hand", "left_finger", "right_finger"):
        spec.add_pair(geomname1="cube", geomname2=other)


def add_fingertips(spec: mujoco.MjSpec, variant: str) -> None:
    """Add the bodies `left_tip` and `right_tip`, 7 cm along the fingers; they do not collide.

    Args:
        spec: the scene, edited in place.
        variant: in "paper" each tip is on a hinge that can turn by 1e-4 rad; in "default" it is fixed to its finger.
    """
    for side in ("left", "right"):
        tip = spec.body(f"{side}_finger").add_body(name=f"{side}_tip", pos=[0.0, 0.005, 0.07])
        # The finger's default class would make the geom another finger box.
        tip.add_geom(
            name=f"{side}_tip",
            default=spec.default,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[0.005, 0.005, 0.005],
            mass=0.001,
            rgba=[0.75, 0.75, 0.78, 1.0],
        )
        if variant == "paper":
            tip.add_joint(
                name=f"{side}_tip",
                default=spec.default,
                type=mujoco.mjtJoint.mjJNT_HINGE,
                axis=[0.0, 0.0, 1.0],
                range=[-1e-4, 1e-4],
            )


def add_bin(spec: mujoco.MjSpec, name: str, centre: tuple[float, float], half_width: float) -> None:
    """Add four walls around a square of the table, which collide with cube, hand and fingers.

    Args:
        spec: the scene with a cube, edited in place.
        name: prefix of the walls' names.
        centre: x and y, in metres.
        half_width: distance from the centre to the middle of a wall, in metres.
    """
    x, y = centre
    thickness, height = 0.005, 0.033
    walls = [
        ((x, y - half_width), (half_width + thickness, thickness)),
        ((x, y + half_width), (half_width + thickness, thickness)),
        ((x - half_width, y), (thickness, half_width - thickness)),
        ((x + half_width, y), (thickness, half_width - thickness)),
    ]
    for number, (place, size) in enumerate(walls):
        wall = f"{name}_{number}"
        spec.worldbody.add_geom(
            name=wall,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[*place, height],
            size=[*size, height],
            material="bin",
        )
        for other in ("cube", "hand", "left_finger", "right_finger"):
            spec.add_pair(geomname1=other, geomname2=wall)


def add_home(spec: mujoco.MjSpec, variant: str, *, cube: tuple[float, float] | None = None) -> None:
    """Add the keyframe `home`, from which starts are drawn. Call it after all other edits.

    Args:
        spec: the scene, edited in place.
        variant: selects the arm's pose.
        cube: x and y of the cube in metres; None without a cube.
    """
    qpos: list[float] = []
    for joint in _joints(spec.worldbody):
        if joint.type == mujoco.mjtJoint.mjJNT_FREE:
            assert cube is not None
            qpos += [*cube, CUBE_START_HEIGHT, 1.0, 0.0, 0.0, 0.0]
        elif joint.name.startswith("joint"):
            qpos.append(HOME[variant][int(joint.name[-1]) - 1])
        else:
            qpos.append(FINGER_HOME if joint.name.endswith("finger") else 0.0)
    spec.add_key(name="home", qpos=qpos)


def _joints(body: mujoco.MjsBody) -> list[mujoco.MjsJoint]:
    """Return the joints of a body and of all its descendants, in the order of `qpos`."""
    return [*body.joints, *(joint for child in body.bodies for joint in _joints(child))]
