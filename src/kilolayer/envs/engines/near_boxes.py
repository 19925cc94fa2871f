"""Boxes near a robot: of the walls of a maze, an engine keeps those that the robot can touch.

An engine that tests every body against every wall spends most of its time on walls that are far away. Here its model
has as many boxes as can be in reach of a robot anywhere, and a map says which they are for each place. Of all robots,
few touch a wall in the same moment: a test of bounding spheres tells which may, so that the others need no boxes.
"""

import dataclasses
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from kilolayer.envs.engines.own_contacts import OwnContacts, own_contacts
from kilolayer.envs.quaternions import rotate

SLACK = 0.3
"""Metres by which joints may yield, beyond the reach of a robot whose joints hold."""

PLACES = 20
"""Squares of the map along the side of the smallest box."""

FAR = 1000.0
"""Metres from all boxes to one that no robot touches."""

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
    """Static boxes of a model, and models with fewer of them."""

    model: mujoco.MjModel
    """With as many boxes as can be in reach."""
    bare: mujoco.MjModel
    """Without boxes, and without contacts of the robot with itself."""
    own: OwnContacts
    """Those contacts."""
    root: str
    """The body whose place tells which are in reach."""
    geoms: Int[np.ndarray, " kept"]
    """Those boxes, by their place among the geoms of `model`."""
    colliders: Int[np.ndarray, " colliders"]
    """Geoms of the robot that collide with boxes, by their place among the geoms of `bare`."""
    position: Float[np.ndarray, "boxes 3"]
    """Of all boxes; the last is out of reach of all."""
    size: Float[np.ndarray, "boxes 3"]
    """Half lengths of all boxes."""
    map: Int[np.ndarray, "xs ys kept"]
    """Boxes in reach of each square, seen from above. The squares at its edge have none."""
    corner: Float[np.ndarray, "2"]
    """Least x and y of the map."""
    spacing: float
    """Side of a square."""

    def in_reach(self, root: Float[Array, "3"]) -> tuple[Float[Array, "kept 3"], Float[Array, "kept 3"]]:
        """Return positions and half lengths of the boxes in reach of a robot; free places hold one that is far away.

        Args:
            root: place of the robot's root.
        """
        square = jnp.floor((root[:2] - self.corner) / self.spacing).astype(jnp.int32)
        x, y = jnp.clip(square, 0, jnp.array(self.map.shape[:2]) - 1)
        boxes = jnp.asarray(self.map)[x, y]
        return jnp.asarray(self.position, jnp.float32)[boxes], jnp.asarray(self.size, jnp.float32)[boxes]

    def may_touch(
        self, root: Float[Array, "3"], position: Float[Array, "bodies 3"], quaternion: Float[Array, "bodies 4"]
    ) -> Bool[Array, ""]:
        """Return whether a robot may touch a box or itself: its bounding spheres overlap boxes, or its parts touch.

        Args:
            root: place of the robot's root.
            position: of all bodies but the world.
            quaternion: of all bodies but the world.
        """
        bodies = self.bare.geom_bodyid[self.colliders] - 1
        offset = jnp.asarray(self.bare.geom_pos[self.colliders], jnp.float32)
        centre = position[bodies] + jax.vmap(rotate)(quaternion[bodies], offset)
        radius = self.bare.geom_rbound[self.colliders] + self.bare.geom_margin[self.colliders]
        box, size = self.in_reach(root)
        aside = jnp.maximum(jnp.abs(centre[:, None] - box) - size, 0.0)
        boxed = jnp.any(jnp.sum(aside**2, axis=-1) <= jnp.asarray(radius**2, jnp.float32)[:, None])
        return boxed | self.own.may_touch(position, quaternion)


def near_boxes(build: Callable[[], mujoco.MjSpec], model: mujoco.MjModel) -> NearBoxes | None:
    """Return the boxes of a model that need not all be kept; None if all of them can be in reach at once.

    It is None, too, for models without one free robot whose other joints turn, since their reach is not known, and
    where bodies of the robot that meet have no names.

    Args:
        build: returns a new specification of the model.
        model: the compiled model.
    """
    boxes, root = _static_boxes(model), _robot(model)
    reach = None if root is None else _reach(model, root)
    if boxes.size < 2 or root is None or reach is None or model.npair or model.ntuple:
        return None
    far = model.geom_pos[boxes].min(axis=0) - FAR
    position, size = np.vstack([model.geom_pos[boxes], far]), model.geom_size[[*boxes, boxes[0]]]
    spacing = 2.0 * size[:, :2].min() / PLACES
    corner, places = _map(position[:-1, :2], size[:-1, :2], reach + SLACK, spacing)
    kept = places.shape[-1]
    if kept >= boxes.size:
        return None
    without = _without(build(), boxes)
    own = own_contacts(without, root)
    names = {tuple(without.body(body).name for body in pair) for pair in without.geom_bodyid[own.pairs]}
    if not (model.body(root).name and all(map(all, names))):
        return None
    bare = _without(build(), boxes, sorted(names))
    return NearBoxes(
        model=_without(build(), boxes[kept:]),
        bare=bare,
        own=own,
        root=model.body(root).name,
        geoms=boxes[:kept],
        colliders=_colliders(bare, root, int(model.geom_contype[boxes[0]]), int(model.geom_conaffinity[boxes[0]])),
        position=position,
        size=size,
        map=places,
        corner=corner,
        spacing=spacing,
    )


def _without(
    spec: mujoco.MjSpec, boxes: Int[np.ndarray, " boxes"], bodies: Iterable[tuple[str, str]] = ()
) -> mujoco.MjModel:
    """Return the model without some of the geoms of the world, and without contacts between pairs of bodies."""
    geoms = list(spec.worldbody.geoms)  # the world's geoms are the first of the model, in this order
    for geom in boxes:
        spec.delete(geoms[geom])
    for first, second in bodies:
        spec.add_exclude(bodyname1=first, bodyname2=second)
    return spec.compile()


def _colliders(model: mujoco.MjModel, root: int, contype: int, conaffinity: int) -> Int[np.ndarray, " colliders"]:
    """Return the geoms of a robot that collide with geoms of these masks."""
    own = model.body_rootid[model.geom_bodyid] == root
    meets = (model.geom_contype & conaffinity) | (model.geom_conaffinity & contype)
    return np.flatnonzero(own & (meets != 0))


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


def _map(
    centre: Float[np.ndarray, "boxes 2"], half: Float[np.ndarray, "boxes 2"], reach: float, spacing: float
) -> tuple[Float[np.ndarray, "2"], Int[np.ndarray, "xs ys kept"]]:
    """Return the corner of a map, and the boxes within reach of any point of each of its squares, seen from above.

    As many are kept as the fullest square has; others are filled up with the number of boxes.
    """
    corner, end = (centre - half).min(axis=0) - reach - 2 * spacing, (centre + half).max(axis=0) + reach + 2 * spacing
    xs, ys = (np.arange(a, b, spacing) + spacing / 2 for a, b in zip(corner, end, strict=True))
    near = np.zeros((xs.size, ys.size, len(centre)), bool)
    for box, ((x, y), (half_x, half_y)) in enumerate(zip(centre, half + spacing / 2, strict=True)):
        aside = np.maximum(np.abs(xs - x) - half_x, 0.0)[:, None], np.maximum(np.abs(ys - y) - half_y, 0.0)[None]
        near[..., box] = aside[0] ** 2 + aside[1] ** 2 <= reach**2
    kept = int(near.sum(axis=-1).max())
    first = np.argsort(~near, axis=-1, kind="stable")[..., :kept]
    return corner, np.where(np.take_along_axis(near, first, axis=-1), first, len(centre)).astype(np.int32)
