import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.errors import ConfigurationError
from kilolayer.nn import ActingMLP, Architecture, Dense, QuantizedDense, ResidualMLP
from kilolayer.nn.acting_mlp import BASE, digits

pytestmark = pytest.mark.usefixtures("quick_compilation")

ARCHITECTURES = [
    Architecture(),
    Architecture(activation="relu", block_size=2),
    Architecture(activation="gelu", block_size=1),
    Architecture(normalization="rms"),
    Architecture(normalization="none"),
    Architecture(residual=False),
    Architecture(residual_scaling="inverse_sqrt"),
    Architecture(checkpoint="block"),
    Architecture(checkpoint="2", block_size=2),
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
@pytest.mark.parametrize("depth", [0, 8])
def test_float32_is_the_network_to_rounding(architecture, depth):
    mlp, x = network(depth, architecture=architecture), inputs(6, 5)
    np.testing.assert_allclose(apply(ActingMLP.of(mlp), x), apply(mlp, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_integers_are_near_the_network_and_more_bits_are_nearer(architecture):
    mlp, x = network(architecture=architecture), inputs(6, 5)
    exact = np.asarray(apply(mlp, x))
    scale = np.abs(exact).max()
    int8, int16 = (np.abs(apply(ActingMLP.of(mlp, name), x) - exact).max() / scale for name in ("int8", "int16"))
    assert 1e-4 < int8 < 0.1
    assert 0.0 < int16 < int8 / 20.0


@pytest.mark.parametrize("precision", ["float32", "int16", "int8"])
def test_a_row_is_computed_as_it_is_alone(precision):
    acting, x = ActingMLP.of(network(), precision), inputs(2, 3, 5)
    together = apply(acting, x)
    assert together.shape == (2, 3, 3)
    for index in itertools.product(range(2), range(3)):
        np.testing.assert_allclose(apply(acting, x[index]), together[index], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["int16", "int8"])
def test_depth_zero_has_nothing_to_round(precision):
    mlp, x = network(depth=0), inputs(6, 5)
    np.testing.assert_array_equal(apply(ActingMLP.of(mlp, precision), x), apply(mlp, x))


def test_integers_are_fewer_bytes():
    mlp = network(depth=8, width=32)
    weights = 8 * 32 * 32
    bytes_of = {name: ActingMLP.of(mlp, name).weight_bytes for name in ("float32", "int16", "int8")}
    assert bytes_of["float32"] == sum(leaf.nbytes for leaf in jax.tree.leaves(mlp))
    scales = 8 * 32 * 4
    assert bytes_of["float32"] - bytes_of["int16"] == 2 * weights - scales
    assert bytes_of["float32"] - bytes_of["int8"] == 3 * weights - scales


def test_an_unknown_precision_is_refused(no_type_checks):
    with pytest.raises(ConfigurationError, match=r"precision='int4' is unknown; choose one of float32, int16, int8"):
        ActingMLP.of(network(), "int4")


# ---- Rounding ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2])
def test_digits_are_off_by_half_a_unit_of_the_last(count):
    x = np.random.default_rng(0).uniform(-127.0, 127.0, 1000).astype(np.float32)
    found = np.asarray(digits(jnp.asarray(x), count), np.float64)
    assert found.shape == (count, 1000)
    assert np.abs(found).max() == 127.0
    error = np.abs(sum(digit / BASE**place for place, digit in enumerate(found)) - x)
    unit = BASE ** (1 - count)
    assert 0.4 * unit < error.max() <= 0.5 * unit + 127.0 * 2e-7


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("size", [3, 64])
def test_a_rounded_product_is_off_by_what_rounding_allows(count, size):
    dense = shuffled(Dense(size, 7, key=jax.random.key(0)))
    x = inputs(20, size)
    rounded = QuantizedDense.of(dense, count)
    weight, x64 = np.asarray(dense.weight, np.float64), np.asarray(x, np.float64)
    error = np.abs(rounded(x) - (x64 @ weight + np.asarray(dense.bias, np.float64)))
    # Half a unit of the last digit, of each weight by its column's unit and of each input by its row's.
    weight_error = 0.5 * BASE ** (1 - count) * np.abs(weight).max(0) / 127.0
    input_error = 0.5 / BASE * np.abs(x64).max(1, keepdims=True) / 127.0
    bound = np.abs(x64).sum(1, keepdims=True) * weight_error + input_error * np.abs(weight).sum(0)
    bound += size * input_error * weight_error + 1e-5
    assert (error <= bound).all()
    assert error.max() > 0.05 * bound.max() if count == 1 else error.max() < 1e-3


def test_products_with_zeros_are_the_bias():
    dense = shuffled(Dense(4, 3, key=jax.random.key(0)))
    silent = eqx.tree_at(lambda d: d.weight, dense, jnp.zeros_like(dense.weight))
    for some, x in ((dense, jnp.zeros((2, 4))), (silent, inputs(2, 4))):
        np.testing.assert_array_equal(QuantizedDense.of(some, 2)(x), np.tile(dense.bias, (2, 1)))
