"""Boxes near a robot: of the walls of a maze, an engine keeps those that the robot can touch in the next control step.

An engine that tests every body against every wall spends most of its time on walls that are far away. Here its model
has as many boxes as can be in reach of a robot anywhere. Before each control step they take the places and sizes of
those that are nearest to the robot's root, so contacts are the same as with all of them.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float, Int

SPEED = 10.0
"""Metres per second: bodies are expected to come near boxes no faster."""

PLACES = 40
"""Places along the side of the smallest box at which the boxes in reach are counted."""

SHARED = (
    "geom_contype",
    "geom_conaffinity",
    "geom_condim",
    "geom_priority",
    "geom_friction",
    "geom_solref",
    "geom_solimp",
    "geom_solmix",
    "geom_margin",
    "geom_gap",
)
"""What must be equal for boxes to take each other's place."""


@dataclasses.dataclass(frozen=True, eq=False)
class NearBoxes:
    """Static boxes of a model, and a model with fewer."""

    model: mujoco.MjModel
    """With as many boxes as can be in reach."""
    root: str
    """The body from which the nearest are told."""
    geoms: Int[np.ndarray, " kept"]
    """Those boxes, by their place among the geoms of `model`."""
    position: Float[np.ndarray, "boxes 3"]
    """Of all boxes."""
    size: Float[np.ndarray, "boxes 3"]
    """Half lengths of all boxes."""

    def nearest(self, root: Float[Array, "3"]) -> tuple[Float[Array, "kept 3"], Float[Array, "kept 3"]]:
        """Return positions and half lengths of the boxes nearest to a point."""
        distance = jnp.linalg.norm(jnp.maximum(jnp.abs(root - self.position) - self.size, 0.0), axis=-1)
        _, nearest = jax.lax.top_k(-distance, len(self.geoms))
        return jnp.asarray(self.position, jnp.float32)[nearest], jnp.asarray(self.size, jnp.float32)[nearest]


def near_boxes(build: Callable[[], mujoco.MjSpec], model: mujoco.MjModel, control_step: float) -> NearBoxes | None:
    """Return the boxes of a model that need not all be kept; None if all of them can be in reach at once.

    It is None, too, for models without one free robot whose other joints turn: their reach is not known.

    Args:
        build: returns a new specification of the model.
        model: the compiled model.
        control_step: seconds for which the choice holds.
    """
    boxes, root = _static_boxes(model), _robot(model)
    reach = None if root is None else _reach(model, root)
    if boxes.size < 2 or root is None or reach is None or model.npair or model.ntuple:
        return None
    position, size = model.geom_pos[boxes], model.geom_size[boxes]
    kept = _most_in_reach(position[:, :2], size[:, :2], reach + SPEED * control_step)
    if kept >= boxes.size:
        return None
    spec = build()
    geoms = list(spec.worldbody.geoms)  # the world's geoms are the first of the model, in this order
    for geom in boxes[kept:]:
        spec.delete(geoms[geom])
    return NearBoxes(spec.compile(), model.body(root).name, boxes[:kept], position, size)


def _static_boxes(model: mujoco.MjModel) -> Int[np.ndarray, " boxes"]:
    """Return the boxes of the world that collide, stand along its axes, and are equal but for place and size."""
    found = np.flatnonzero(
        (model.geom_bodyid == 0)
        & (model.geom_type == mujoco.mjtGeom.mjGEOM_BOX)
        & ((model.geom_contype | model.geom_conaffinity) != 0)
        & np.all(model.geom_quat == [1.0, 0.0, 0.0, 0.0], axis=1)
    )
    alike = [np.all(getattr(model, name)[found] == getattr(model, name)[found[:1]]) for name in SHARED]
    return found if all(alike) else found[:0]


def _robot(model: mujoco.MjModel) -> int | None:
    """Return the root of the one robot that moves freely and collides; None if it is not alone."""
    collides = (model.geom_contype | model.geom_conaffinity) != 0
    movable = set(model.body_rootid[model.jnt_bodyid].tolist())
    roots = movable & set(model.body_rootid[model.geom_bodyid[collides]].tolist())
    free = set(model.jnt_bodyid[model.jnt_type == mujoco.mjtJoint.mjJNT_FREE].tolist())
    return roots.pop() if len(roots) == 1 and roots <= free else None


def _reach(model: mujoco.MjModel, root: int) -> float | None:
    """Return how far from its root any part of a robot can be; None if parts of it slide."""
    own_joints = model.body_rootid[model.jnt_bodyid] == root
    if np.any(model.jnt_type[own_joints] == mujoco.mjtJoint.mjJNT_SLIDE):
        return None
    chain = np.zeros(model.nbody)
    for body in np.flatnonzero(model.body_rootid == root):
        if body != root:
            joints = model.jnt_pos[model.jnt_bodyid == body]
            turning = 2.0 * np.linalg.norm(joints, axis=1).max(initial=0.0)
            chain[body] = chain[model.body_parentid[body]] + np.linalg.norm(model.body_pos[body]) + turning
    own = np.flatnonzero(model.body_rootid[model.geom_bodyid] == root)
    extent = np.linalg.norm(model.geom_pos[own], axis=1) + model.geom_rbound[own] + model.geom_margin[own]
    return float((chain[model.geom_bodyid[own]] + extent).max(initial=0.0))


def _most_in_reach(centre: Float[np.ndarray, "boxes 2"], half: Float[np.ndarray, "boxes 2"], reach: float) -> int:
    """Return the largest number of boxes within reach of any point, seen from above."""
    spacing = 2.0 * half.min() / PLACES
    reach += spacing  # a point is nearer than this to one of the places
    low, high = (centre - half).min(axis=0) - reach, (centre + half).max(axis=0) + reach
    xs, ys = (np.arange(a, b + spacing, spacing) for a, b in zip(low, high, strict=True))
    count = np.zeros((xs.size, ys.size), int)
    for (x, y), (half_x, half_y) in zip(centre, half, strict=True):
        aside = np.maximum(np.abs(xs - x) - half_x, 0.0)[:, None], np.maximum(np.abs(ys - y) - half_y, 0.0)[None]
        count += aside[0] ** 2 + aside[1] ** 2 <= reach**2
    return int(count.max())
