import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilolayer.errors import ConfigurationError
from kilolayer.nn import Dense, HiddenLayer, LayerNorm, RMSNorm

ACTIVATIONS = {
    "swish": lambda x: x / (1.0 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0.0),
    "gelu": lambda x: 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))),
}
NORMALIZATIONS = {
    "layer": lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6),
    "rms": lambda x: x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6),
    "none": lambda x: x,
}


def jitter(tree, seed=0):
    """Move every parameter off its start, so that biases, scales and offsets count."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(p + 0.3 * rng.standard_normal(p.shape)), jax.device_get(tree))


@pytest.mark.parametrize("shape", [(5,), (7, 5), (2, 3, 5)])
def test_dense_is_affine_in_the_last_axis(x64, shape):
    dense = jitter(Dense(5, 4, key=jax.random.key(0)))
    x = np.random.default_rng(1).standard_normal(shape)
    expected = np.einsum("...i,io->...o", x, dense.weight) + np.asarray(dense.bias)
    np.testing.assert_allclose(dense(jnp.asarray(x)), expected, rtol=1e-12)


@pytest.mark.parametrize("in_size", [3, 64, 256])
def test_dense_weights_start_uniform_within_one_over_root_fan_in(in_size):
    weight = np.asarray(Dense(in_size, 60_000 // in_size, key=jax.random.key(0)).weight)
    limit = in_size**-0.5
    assert np.abs(weight).max() <= limit
    assert weight.max() > 0.99 * limit
    assert weight.min() < -0.99 * limit
    assert abs(weight.mean()) < 0.02 * limit
    # Of a uniform distribution: the variance, a third of 1 / fan_in, and the share inside half the range.
    assert weight.var() == pytest.approx(1.0 / (3.0 * in_size), rel=0.03)
    assert np.mean(np.abs(weight) < 0.5 * limit) == pytest.approx(0.5, abs=0.02)


def test_dense_biases_start_at_zero():
    assert not np.any(Dense(6, 5, key=jax.random.key(0)).bias)


def test_dense_weights_follow_the_key():
    first, again, other = (Dense(6, 5, key=jax.random.key(seed)).weight for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


# Entries of size 1e-3 have a variance like the epsilon, which then shows.
@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_layer_norm_is_standardisation_with_epsilon_1e_6(x64, size):
    norm = jitter(LayerNorm(6))
    x = size * (2.0 + np.random.default_rng(1).standard_normal((4, 6)))
    expected = NORMALIZATIONS["layer"](x) * np.asarray(norm.scale) + np.asarray(norm.offset)
    np.testing.assert_allclose(norm(jnp.asarray(x)), expected, rtol=1e-10)


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_rms_norm_divides_by_the_root_mean_square_with_epsilon_1e_6(x64, size):
    norm = jitter(RMSNorm(6))
    x = size * (2.0 + np.random.default_rng(1).standard_normal((4, 6)))
    expected = NORMALIZATIONS["rms"](x) * np.asarray(norm.scale)
    np.testing.assert_allclose(norm(jnp.asarray(x)), expected, rtol=1e-10)


def test_norms_start_with_scale_one_and_offset_zero():
    layer, rms = LayerNorm(5), RMSNorm(5)
    np.testing.assert_array_equal(layer.scale, np.ones(5))
    np.testing.assert_array_equal(layer.offset, np.zeros(5))
    np.testing.assert_array_equal(rms.scale, np.ones(5))


@pytest.mark.parametrize("norm", [LayerNorm(4), RMSNorm(4)])
def test_norms_have_finite_gradients_at_a_constant_row(norm):
    gradient = jax.grad(lambda x: jnp.sum(jnp.square(norm(x))))(jnp.zeros((2, 4)))
    assert np.all(np.isfinite(gradient))


@settings(deadline=None, derandomize=True, max_examples=15)
@given(
    x=st.lists(st.integers(-50, 50), min_size=3, max_size=3, unique=True),
    shift=st.integers(-20, 20),
    factor=st.integers(1, 20),
)
def test_layer_norm_does_not_see_shift_or_scale(x, shift, factor):
    norm, x = LayerNorm(3), jnp.asarray(x, jnp.float32)
    standard = np.asarray(norm(x))
    assert standard.mean() == pytest.approx(0.0, abs=1e-5)
    assert standard.var() == pytest.approx(1.0, abs=1e-4)
    np.testing.assert_allclose(norm(factor * x + shift), standard, atol=1e-4)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_hidden_layer_is_dense_then_norm_then_activation(x64, activation, normalization):
    layer = HiddenLayer(5, 4, activation=activation, normalization=normalization, key=jax.random.key(0))
    layer = jitter(layer)
    x = np.random.default_rng(1).standard_normal((3, 5))
    h = NORMALIZATIONS[normalization](x @ np.asarray(layer.dense.weight) + np.asarray(layer.dense.bias))
    if layer.norm is not None:
        h = h * np.asarray(layer.norm.scale) + np.asarray(getattr(layer.norm, "offset", 0.0))
    np.testing.assert_allclose(layer(jnp.asarray(x)), ACTIVATIONS[activation](h), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("field", ["activation", "normalization"])
def test_unknown_names_are_refused(no_type_checks, field):
    with pytest.raises(ConfigurationError, match=f"{field}='tanh' is unknown; choose one of"):
        HiddenLayer(5, 4, key=jax.random.key(0), **{field: "tanh"})
