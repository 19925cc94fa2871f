"""Quaternions: against MuJoCo's own functions, and their laws."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from kilolayer.envs import quaternions as q


def some(count: int = 50, seed: int = 0) -> jax.Array:
    return q.unit(jax.random.normal(jax.random.key(seed), (count, 4)))


def test_they_are_mujocos():
    first, second = some(), some(seed=1)
    vectors = jax.random.normal(jax.random.key(2), (50, 3))
    for number in range(10):
        product, turned, matrix, change = np.zeros(4), np.zeros(3), np.zeros(9), np.zeros(3)
        one, two = np.asarray(first[number], float), np.asarray(second[number], float)
        mujoco.mju_mulQuat(product, one, two)
        mujoco.mju_rotVecQuat(turned, np.asarray(vectors[number], float), one)
        mujoco.mju_quat2Mat(matrix, one)
        mujoco.mju_quat2Vel(change, one, 1.0)
        np.testing.assert_allclose(q.multiply(first, second)[number], product, atol=1e-6)
        np.testing.assert_allclose(q.rotate(first, vectors)[number], turned, atol=1e-5)
        np.testing.assert_allclose(q.to_matrix(first)[number], matrix.reshape(3, 3), atol=1e-6)
        np.testing.assert_allclose(q.to_rotation_vector(first)[number], change, atol=1e-5)


def test_rotations_are_undone():
    turns, vectors = some(), jax.random.normal(jax.random.key(2), (50, 3))
    np.testing.assert_allclose(q.rotate_back(turns, q.rotate(turns, vectors)), vectors, atol=1e-5)
    identity = q.multiply(turns, q.conjugate(turns))
    np.testing.assert_allclose(identity, np.broadcast_to([1.0, 0, 0, 0], (50, 4)), atol=1e-6)


def test_vectors_and_quaternions_tell_the_same_rotations():
    vectors = jnp.concatenate([jnp.zeros((1, 3)), 1e-6 * jnp.ones((1, 3)), jnp.array([[0.0, 3.0, 0.5]])])
    np.testing.assert_allclose(q.to_rotation_vector(q.from_rotation_vector(vectors)), vectors, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(
        q.about(jnp.array([0.0, 0.0, 1.0]), jnp.array([0.5])),
        q.from_rotation_vector(jnp.array([[0, 0, 0.5]])),
        atol=1e-7,
    )
    slopes = jax.jacobian(lambda vector: q.to_rotation_vector(q.from_rotation_vector(vector)))(jnp.zeros(3))
    np.testing.assert_allclose(slopes, np.eye(3), atol=1e-6)


def test_the_distance_of_rotations_is_their_angle_and_signs_do_not_count():
    turns = some()
    turned = q.multiply(turns, q.about(jnp.array([0.6, 0.0, 0.8]), jnp.full(50, 0.7)))
    np.testing.assert_allclose(q.rotation_distance(turns, turned), 0.7, atol=1e-5)
    np.testing.assert_allclose(q.rotation_distance(turns, -turned), 0.7, atol=1e-5)
    np.testing.assert_allclose(q.rotation_distance(turns, -turns), 0.0, atol=1e-3)


def test_a_quaternion_of_zeros_becomes_the_identity():
    np.testing.assert_array_equal(q.unit(jnp.zeros(4)), [1.0, 0.0, 0.0, 0.0])
