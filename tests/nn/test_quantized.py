import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.nn import Dense, QuantizedDense, ResidualArchitecture, ResidualMLP

ARCHITECTURES = [
    ResidualArchitecture(),
    ResidualArchitecture(activation="relu", block_size=2),
    ResidualArchitecture(activation="gelu", block_size=1),
    ResidualArchitecture(normalization="rms"),
    ResidualArchitecture(normalization="none"),
    ResidualArchitecture(residual=False),
    ResidualArchitecture(residual_scaling="inverse_sqrt"),
    ResidualArchitecture(remat="block"),
    ResidualArchitecture(remat="2", block_size=2),
]


def shuffled(tree, seed=0):
    """Move every parameter off its start, so that biases, scales and offsets count."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: p + 0.2 * rng.standard_normal(p.shape).astype(np.float32), tree)


def network(depth=8, width=16, architecture=None):
    """Build a network from 5 numbers to 3."""
    return shuffled(ResidualMLP(5, 3, depth=depth, width=width, architecture=architecture, key=jax.random.key(0)))


def inputs(*shape, seed=1):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


apply = jax.jit(lambda network, x: network(x))


# ---- The function it computes ------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_int8_is_near_the_network(architecture):
    mlp, x = network(architecture=architecture), inputs(6, 5)
    exact = np.asarray(apply(mlp, x))
    error = np.abs(apply(mlp.quantize(), x) - exact).max() / np.abs(exact).max()
    assert 1e-4 < error < 0.1


def test_a_row_is_computed_as_it_is_alone():
    acting, x = network().quantize(), inputs(2, 3, 5)
    together = apply(acting, x)
    assert together.shape == (2, 3, 3)
    for index in itertools.product(range(2), range(3)):
        np.testing.assert_allclose(apply(acting, x[index]), together[index], rtol=1e-4, atol=1e-5)


def test_depth_zero_has_nothing_to_round():
    mlp, x = network(depth=0), inputs(6, 5)
    np.testing.assert_array_equal(apply(mlp.quantize(), x), apply(mlp, x))


def test_int8_is_fewer_bytes():
    mlp = network(depth=8, width=32)
    float32, int8 = (sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) for tree in (mlp, mlp.quantize()))
    weights, scales = 8 * 32 * 32, 8 * 32
    assert float32 - int8 == 3 * weights - 4 * scales


def test_only_the_dense_layers_of_the_blocks_change():
    mlp = network()
    int8 = mlp.quantize()
    assert isinstance(int8, ResidualMLP)
    assert (int8.depth, int8.architecture) == (mlp.depth, mlp.architecture)
    for name in ("input_layer", "head"):
        assert eqx.tree_equal(getattr(int8, name), getattr(mlp, name))
    assert eqx.tree_equal(int8.blocks.norm, mlp.blocks.norm)
    assert isinstance(int8.blocks.dense, QuantizedDense)
    assert int8.blocks.dense.weight.dtype == jnp.int8


# ---- Rounding ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 64])
def test_a_rounded_product_is_off_by_what_rounding_allows(size):
    dense = shuffled(Dense(size, 7, key=jax.random.key(0)))
    x = inputs(20, size)
    weight, exact_x = np.asarray(dense.weight, np.float64), np.asarray(x, np.float64)
    error = np.abs(QuantizedDense.of(dense)(x) - (exact_x @ weight + np.asarray(dense.bias, np.float64)))
    # Half a unit: of each weight, 1/127 of the largest of its column; of each input, 1/254 of 1/127 of its row's.
    weight_error = 0.5 * np.abs(weight).max(0) / 127.0
    input_error = 0.5 * np.abs(exact_x).max(1, keepdims=True) / 127.0 / 254.0
    bound = np.abs(exact_x).sum(1, keepdims=True) * weight_error + input_error * np.abs(weight).sum(0)
    bound += size * input_error * weight_error + 1e-5
    assert (error <= bound).all()
    assert size == 1 or error.max() > 0.05 * bound.max()


def test_inputs_are_rounded_far_less_than_weights():
    # Whole multiples of a 127th of the largest: these weights are exact.
    weight = jnp.asarray(np.random.default_rng(0).integers(-127, 128, (64, 7)).astype(np.float32)).at[0].set(127.0)
    dense = eqx.tree_at(lambda d: d.weight, shuffled(Dense(64, 7, key=jax.random.key(0))), weight)
    x = inputs(20, 64)
    scale = np.abs(np.asarray(x)).max() * 127.0 * 64**0.5
    assert 1e-7 < np.abs(QuantizedDense.of(dense)(x) - dense(x)).max() / scale < 1e-4


def test_products_with_zeros_are_the_bias():
    dense = shuffled(Dense(4, 3, key=jax.random.key(0)))
    silent = eqx.tree_at(lambda d: d.weight, dense, jnp.zeros_like(dense.weight))
    for some, x in ((dense, jnp.zeros((2, 4))), (silent, inputs(2, 4))):
        np.testing.assert_array_equal(QuantizedDense.of(some)(x), np.tile(dense.bias, (2, 1)))
