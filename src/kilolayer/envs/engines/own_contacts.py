"""Contacts of a robot with itself: rare, so an engine may ask first whether there can be any."""

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from kilolayer.envs.quaternions import rotate

EPSILON = 1e-4
"""Metres by which rounding may move what touches."""


@dataclasses.dataclass(frozen=True, eq=False)
class OwnContacts:
    """Pairs of geoms of one robot that collide. A geom is taken as a capsule: a line segment with a radius."""

    pairs: Int[np.ndarray, "pairs 2"]
    """Geoms, by their place in the model; the second segment of each pair is the longer one."""
    body: Int[np.ndarray, " geoms"]
    """Of each geom, by its place among all bodies but the world."""
    centre: Float[np.ndarray, "geoms 3"]
    """In the frame of the body."""
    half: Float[np.ndarray, "geoms 3"]
    """From the centre of the segment to its end, in the frame of the body."""
    radius: Float[np.ndarray, " geoms"]

    def may_touch(self, position: Float[Array, "bodies 3"], quaternion: Float[Array, "bodies 4"]) -> Bool[Array, ""]:
        """Return whether any pair may touch. Never false for one that does; exact for spheres beside capsules.

        Args:
            position: of all bodies but the world.
            quaternion: of all bodies but the world.
        """
        if not self.pairs.size:
            return jnp.array(False)
        used, places = np.unique(self.pairs, return_inverse=True)
        first, second = places.reshape(-1, 2).T
        turned = quaternion[self.body[used]]
        centre = position[self.body[used]] + jax.vmap(rotate)(turned, jnp.asarray(self.centre[used], jnp.float32))
        half = jax.vmap(rotate)(turned, jnp.asarray(self.half[used], jnp.float32))
        # The first of a pair as the sphere around it, and the nearest point of the second one's segment.
        length = np.linalg.norm(self.half[used], axis=-1)
        touching = self.radius[used][first] + length[first] + self.radius[used][second]
        away = centre[first] - centre[second]
        along = jnp.sum(away * half[second], axis=-1) / np.maximum(length[second] ** 2, 1e-12)
        away -= jnp.clip(along, -1.0, 1.0)[:, None] * half[second]
        return jnp.any(jnp.sum(away**2, axis=-1) <= jnp.asarray((touching + EPSILON) ** 2, jnp.float32))


def own_contacts(model: mujoco.MjModel, root: int) -> OwnContacts:
    """Return the pairs of geoms of a robot that collide by MuJoCo's rules.

    Args:
        model: the compiled model.
        root: body at the root of the robot.
    """
    own = np.flatnonzero(model.body_rootid[model.geom_bodyid] == root)
    capsule = model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE
    known = capsule | (model.geom_type == mujoco.mjtGeom.mjGEOM_SPHERE)
    axis = np.zeros((model.ngeom, 3))
    for geom in np.flatnonzero(capsule):
        mujoco.mju_rotVecQuat(axis[geom], np.array([0.0, 0.0, model.geom_size[geom, 1]]), model.geom_quat[geom])
    length = np.linalg.norm(axis, axis=1)
    pairs = [
        sorted((first, second), key=lambda geom: length[geom])
        for place, first in enumerate(own)
        for second in own[place + 1 :]
        if _collide(model, int(first), int(second))
    ]
    return OwnContacts(
        pairs=np.array(pairs, int).reshape(-1, 2),
        body=model.geom_bodyid - 1,
        centre=model.geom_pos,
        half=axis,
        radius=np.where(known, model.geom_size[:, 0], model.geom_rbound) + model.geom_margin,
    )


def _collide(model: mujoco.MjModel, first: int, second: int) -> bool:
    """Return whether two geoms of a robot collide: by their masks, and unless their bodies are parent and child."""
    bodies = model.geom_bodyid[[first, second]]
    one, other = model.body_weldid[bodies]
    above_one, above_other = model.body_weldid[model.body_parentid[[one, other]]]
    masks = (model.geom_contype[first] & model.geom_conaffinity[second]) | (
        model.geom_contype[second] & model.geom_conaffinity[first]
    )
    excluded = (bodies.min() << 16) + bodies.max() in model.exclude_signature
    return bool(masks and one != other and above_one != other and above_other != one and not excluded)
