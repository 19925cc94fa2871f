"""What lies on the tables of arms."""

from collections.abc import Sequence

import mujoco


def add_zone(spec: mujoco.MjSpec, centre: tuple[float, float], half_width: float, rgba: Sequence[float]) -> None:
    """Colour a square of the table. It does not collide.

    Args:
        spec: the scene, edited in place.
        centre: x and y, in metres.
        half_width: half the edge, in metres.
        rgba: the colour.
    """
    spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=[*centre, 0.0008],
        size=[half_width, half_width, 0.0007],
        group=2,
        mass=0.0,
        rgba=rgba,
    )
