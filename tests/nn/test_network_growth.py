"""Networks that grow: the same function with more layers, which learn."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.errors import ConfigurationError
from kilolayer.nn import ResidualArchitecture, ResidualMLP
from kilolayer.nn.layers import ACTIVATIONS

SCALED = {"residual_scaling": "inverse_sqrt", "scaled_for_depth": 16}


def network(depth=4, **options):
    """Return a network whose every parameter, scales and offsets too, is random."""
    architecture = ResidualArchitecture(**({"block_size": 2} | options))
    fresh = ResidualMLP(5, 3, depth=depth, width=8, architecture=architecture, key=jax.random.key(0))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda p: jnp.asarray(p + 0.3 * rng.standard_normal(p.shape), jnp.float32), fresh)


def grow(mlp, depth, *, key):
    """Return the network with blocks appended up to this depth."""
    return mlp.architecture.build(5, 3, depth=depth, width=8, key=key).graft(mlp)


def inputs():
    return jnp.asarray(np.random.default_rng(2).standard_normal((64, 5)), jnp.float32)


apply = jax.jit(lambda mlp, x: mlp(x))
gradient = jax.jit(jax.grad(lambda mlp, x: jnp.sum(jnp.square(mlp(x)))))


def last_layers(mlp, first):
    """Return what silences the blocks from `first` on: the norms of their last layers, or their dense maps."""
    blocks = mlp.blocks
    return jax.tree.map(lambda p: p[first:, -1], blocks.dense if blocks.norm is None else blocks.norm)


options = pytest.mark.parametrize(
    "options",
    [
        pytest.param(
            {"activation": activation, "normalization": normalization} | scaling,
            marks=[pytest.mark.slow] * ((activation == "swish") != (normalization == "layer")),
        )
        for activation in ("swish", "gelu")
        for normalization in ("layer", "rms", "none")
        for scaling in ({}, SCALED)
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)


@options
def test_a_grown_network_is_the_same_function_and_its_new_blocks_learn(options):
    mlp, x = network(**options), inputs()
    grown = grow(mlp, 12, key=jax.random.key(3))
    assert (mlp.depth, grown.depth) == (4, 12)
    output = apply(mlp, x)
    np.testing.assert_allclose(apply(grown, x), output, rtol=0.0, atol=2.0**-22 * float(jnp.abs(output).max()))
    # At first the gradient is that of the last layers alone; none of their numbers is without one.
    slope = gradient(grown, x)
    assert all(np.all(leaf != 0.0) for leaf in jax.tree.leaves(last_layers(slope, 2)))
    # One step later, the rest of the new blocks has one too, and the function is another.
    stepped = eqx.apply_updates(grown, jax.tree.map(lambda g: -0.1 * jnp.sign(g), slope))
    assert np.abs(apply(stepped, x) - apply(grown, x)).max() > 1e-2
    assert all(np.any(leaf[2:] != 0.0, axis=-1).all() for leaf in jax.tree.leaves(gradient(stepped, x).blocks))


@options
def test_what_was_there_stays_and_the_rest_is_drawn_as_for_a_new_network(options):
    mlp = network(**options)
    grown = grow(mlp, 12, key=jax.random.key(3))
    fresh = ResidualMLP(5, 3, depth=12, width=8, architecture=mlp.architecture, key=jax.random.key(3))
    assert jax.tree.structure(grown) == jax.tree.structure(fresh)
    for name in ("input_layer", "head"):
        assert eqx.tree_equal(getattr(grown, name), getattr(mlp, name))
    assert eqx.tree_equal(jax.tree.map(lambda p: p[:2], grown.blocks), mlp.blocks)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(last_layers(grown, 2)))
    silenced = fresh.blocks.dense if fresh.blocks.norm is None else fresh.blocks.norm
    for new, drawn in zip(jax.tree.leaves(grown.blocks), jax.tree.leaves(fresh.blocks), strict=True):
        np.testing.assert_array_equal(new[2:, :-1], drawn[2:, :-1])
        if not any(drawn is leaf for leaf in jax.tree.leaves(silenced)):
            np.testing.assert_array_equal(new[2:], drawn[2:])


@pytest.mark.parametrize("remat", ["none", "layer", "block", "2"])
@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_neither_remat_nor_precision_make_it_jump(remat, precision):
    mlp, x = network(remat=remat, precision=precision), inputs()
    output = apply(mlp, x)
    grown = apply(grow(mlp, 10, key=jax.random.key(3)), x)
    np.testing.assert_allclose(grown, output, rtol=0.0, atol=2.0**-22 * float(jnp.abs(output).max()))


def test_other_keys_draw_other_blocks():
    mlp = network()
    first, again, other = (grow(mlp, 12, key=jax.random.key(seed)) for seed in (3, 3, 4))
    assert eqx.tree_equal(first, again)
    assert np.all(first.blocks.dense.weight[2:] != other.blocks.dense.weight[2:])


def test_growing_twice_is_growing():
    mlp, x = network(), inputs()
    once = grow(mlp, 8, key=jax.random.key(3))
    twice = grow(jax.tree.map(lambda p: p + 0.01, once), 12, key=jax.random.key(4))
    np.testing.assert_allclose(apply(twice, x), apply(jax.tree.map(lambda p: p + 0.01, once), x), rtol=1e-6)
    assert eqx.tree_equal(grow(once, 8, key=jax.random.key(5)), once)


def test_a_network_without_blocks_grows_its_first():
    mlp, x = network(depth=0, **SCALED), inputs()
    grown = grow(mlp, 8, key=jax.random.key(3))
    assert grown.num_blocks == 4
    np.testing.assert_allclose(apply(grown, x), apply(mlp, x), rtol=1e-6)
    assert eqx.tree_equal(grow(mlp, 0, key=jax.random.key(3)), mlp)


def test_moments_of_new_blocks_are_those_of_a_new_network():
    mlp = network()
    deep = grow(mlp, 12, key=jax.random.key(3))
    moments = jax.tree.map(jnp.zeros_like, deep).graft(mlp)
    assert eqx.tree_equal(jax.tree.map(lambda p: p[:2], moments.blocks), mlp.blocks)
    assert not any(np.any(leaf[2:]) for leaf in jax.tree.leaves(moments.blocks))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_can_grow_if_and_only_if_zero_stays_zero_with_a_slope(activation):
    function = ACTIVATIONS[activation]
    if float(function(jnp.zeros(()))) == 0.0 and float(jax.grad(function)(0.0)) != 0.0:
        ResidualArchitecture(activation=activation).check_growable()
    else:
        with pytest.raises(ConfigurationError, match=f"activation={activation!r} cannot grow.*swish, gelu"):
            ResidualArchitecture(activation=activation).check_growable()


@pytest.mark.parametrize(
    ("options", "depth", "message"),
    [
        ({"activation": "relu"}, 8, "activation='relu' cannot grow"),
        ({"residual": False}, 8, "residual=False cannot grow"),
        ({"residual_scaling": "inverse_sqrt"}, 8, "set scaled_for_depth to the depth"),
        ({}, 2, "depth=2 is less than the network's own 4"),
        ({}, 7, "depth=7 is not a multiple of block_size=2; try 6 or 8"),
    ],
)
def test_what_cannot_grow_is_refused_in_one_line(options, depth, message):
    with pytest.raises(ConfigurationError) as error:
        grow(network(**options), depth, key=jax.random.key(0))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
