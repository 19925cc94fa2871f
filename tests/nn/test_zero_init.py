"""Residual MLPs whose last layer of every block starts with zero weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from networks import apply, drawn, gradient, inputs

from kilolayer.errors import ConfigurationError
from kilolayer.nn import ResidualArchitecture, block_statistics, gradient_norms

zero_init = functools.partial(drawn, "residual_mlp", zero_init=True)
options = pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "gelu"},
        {"normalization": "rms"},
        {"normalization": "none"},
        {"block_size": 1},
        {"residual_scaling": "inverse_sqrt"},
    ],
    ids=str,
)


@options
def test_a_new_network_is_its_input_layer_and_its_head(options):
    network, x = zero_init(depth=16, **options), inputs(12, 5)
    np.testing.assert_array_equal(network.trunk(x), network.input_layer(x))
    assert not np.any(block_statistics(network, x)["residual_norm"])


def test_nothing_else_is_drawn_differently():
    zero, plain = zero_init(), drawn("residual_mlp")
    assert not np.any(zero.blocks.dense.weight[:, -1])
    np.testing.assert_array_equal(zero.blocks.dense.weight[:, :-1], plain.blocks.dense.weight[:, :-1])
    for name in ("input_layer", "head"):
        ours, theirs = (jax.tree.leaves(getattr(network, name)) for network in (zero, plain))
        assert all(map(np.array_equal, ours, theirs))
    assert not ResidualArchitecture().zero_init


@options
@pytest.mark.parametrize("depth", [pytest.param(16, marks=pytest.mark.slow), 64])
def test_gradients_are_finite_and_reach_the_zero_layers(options, depth):
    slopes = gradient(zero_init(depth=depth, **options), inputs(12, 5))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(slopes))
    assert np.all(gradient_norms(slopes) > 0.0)
    assert np.all(np.any(slopes.blocks.dense.weight[:, -1], axis=(1, 2)))


@options
def test_adam_learns_from_zero(options):
    network, x = zero_init(depth=8, width=16, **options), inputs(64, 5)
    target = jnp.stack([jnp.sin(2.0 * x[:, 0]), x[:, 1] * x[:, 2], x[:, 3] ** 2], axis=-1)
    optimizer = optax.adam(3e-4)

    def step(carry, _):
        network, state = carry
        value, slope = jax.value_and_grad(lambda n: jnp.mean(jnp.square(n(x) - target)))(network)
        updates, state = optimizer.update(slope, state)
        return (optax.apply_updates(network, updates), state), value

    train = jax.jit(lambda network: jax.lax.scan(step, (network, optimizer.init(network)), None, 400))
    (trained, _), losses = train(network)
    assert np.all(np.isfinite(losses))
    assert losses[-1] < 0.6 * losses[0]
    assert np.all(block_statistics(trained, x)["residual_norm"] > 1e-3)


@pytest.mark.parametrize("normalization", ["layer", "none"])
def test_a_network_grows_by_blocks_that_start_at_zero(normalization):
    shallow, deep = (zero_init(depth=depth, seed=depth, normalization=normalization) for depth in (4, 12))
    rng = np.random.default_rng(1)
    shallow = jax.tree.map(lambda p: jnp.asarray(p + 0.3 * rng.standard_normal(p.shape), jnp.float32), shallow)
    grown, x = deep.graft(shallow), inputs(12, 5)
    np.testing.assert_allclose(apply(grown, x), apply(shallow, x), rtol=1e-5, atol=1e-6)
    slopes = gradient(grown, x)
    assert np.all(np.any(slopes.blocks.dense.weight[1:, -1], axis=(1, 2)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"residual": False}, "zero_init=True needs residual=True"),
        ({"activation": "relu"}, "activation='relu' is not; choose one of swish, gelu"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused_by_name(options, message):
    with pytest.raises(ConfigurationError) as error:
        zero_init(**options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
