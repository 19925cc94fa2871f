"""Quaternions (w, x, y, z) of unit length, as MuJoCo's: they turn vectors from body axes to world axes.

All functions accept leading axes, and broadcast them.
"""

import jax.numpy as jnp
import mujoco
from jaxtyping import Array, Float

SMALL = 1e-8
"""Squared length below which the axis of a rotation does not matter."""


def rotate(quaternion: Float[Array, "*#batch 4"], vector: Float[Array, "*#batch 3"]) -> Float[Array, "*batch 3"]:
    """Rotate a vector from body axes to world axes, by the body's quaternion."""
    w, axis = quaternion[..., :1], quaternion[..., 1:]
    return vector + 2 * jnp.cross(axis, jnp.cross(axis, vector) + w * vector)


def rotate_back(quaternion: Float[Array, "*#batch 4"], vector: Float[Array, "*#batch 3"]) -> Float[Array, "*batch 3"]:
    """Rotate a vector from world axes to body axes, by the body's quaternion."""
    return rotate(conjugate(quaternion), vector)


def multiply(first: Float[Array, "*#batch 4"], second: Float[Array, "*#batch 4"]) -> Float[Array, "*batch 4"]:
    """Return the rotation that does `second` and then `first`, as the product of matrices does."""
    w, x, y, z = (first[..., part] for part in range(4))
    w2, x2, y2, z2 = (second[..., part] for part in range(4))
    return jnp.stack(
        [
            w * w2 - x * x2 - y * y2 - z * z2,
            w * x2 + x * w2 + y * z2 - z * y2,
            w * y2 - x * z2 + y * w2 + z * x2,
            w * z2 + x * y2 - y * x2 + z * w2,
        ],
        axis=-1,
    )


def conjugate(quaternion: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """Return the opposite rotation."""
    return quaternion * jnp.array([1.0, -1.0, -1.0, -1.0])


def unit(quaternion: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """Return a quaternion scaled to unit length; one of zeros becomes the identity, as in MuJoCo."""
    length = jnp.linalg.norm(quaternion, axis=-1, keepdims=True)
    return jnp.where(length < mujoco.mjMINVAL, jnp.eye(4)[0], quaternion / length)


def about(axis: Float[Array, "*#batch 3"], angle: Float[Array, "*#batch"]) -> Float[Array, "*batch 4"]:
    """Return the rotation about an axis of unit length by an angle in radians."""
    half = 0.5 * angle[..., None]
    sine = jnp.sin(half) * axis
    return jnp.concatenate([jnp.broadcast_to(jnp.cos(half), (*sine.shape[:-1], 1)), sine], axis=-1)


def from_rotation_vector(vector: Float[Array, "*batch 3"]) -> Float[Array, "*batch 4"]:
    """Return the rotation about the direction of a vector by its length, in radians."""
    squared = jnp.sum(vector**2, axis=-1, keepdims=True)
    tiny = squared < SMALL
    angle = jnp.sqrt(jnp.where(tiny, 1.0, squared))
    scale = jnp.where(tiny, 0.5 - squared / 48.0, jnp.sin(0.5 * angle) / angle)
    return jnp.concatenate([jnp.where(tiny, 1.0 - squared / 8.0, jnp.cos(0.5 * angle)), scale * vector], axis=-1)


def to_rotation_vector(quaternion: Float[Array, "*batch 4"]) -> Float[Array, "*batch 3"]:
    """Return the axis of a rotation times its angle from 0 to pi, in radians; the same for q and -q."""
    quaternion = jnp.where(quaternion[..., :1] < 0.0, -quaternion, quaternion)
    w, axis = quaternion[..., :1], quaternion[..., 1:]
    squared = jnp.sum(axis**2, axis=-1, keepdims=True)
    tiny = squared < SMALL
    sine = jnp.sqrt(jnp.where(tiny, 1.0, squared))
    return jnp.where(tiny, 2.0, 2.0 * jnp.arctan2(sine, w) / sine) * axis


def rotation_distance(first: Float[Array, "*#batch 4"], second: Float[Array, "*#batch 4"]) -> Float[Array, "*batch"]:
    """Return the angle of the rotation between two orientations, from 0 to pi, in radians; q and -q are the same."""
    apart = multiply(conjugate(first), second)
    return 2.0 * jnp.arctan2(jnp.linalg.norm(apart[..., 1:], axis=-1), jnp.abs(apart[..., 0]))


def to_matrix(quaternion: Float[Array, "*batch 4"]) -> Float[Array, "*batch 3 3"]:
    """Return the rotation matrices of unit quaternions, from body axes to world axes."""
    w, x, y, z = jnp.moveaxis(quaternion, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
