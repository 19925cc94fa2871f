"""The torso of SimbaV2: everything has length one."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import apply, build, drawn, gradient, inputs

from kilolayer.errors import ConfigurationError
from kilolayer.nn import Dense, HypersphericalArchitecture, block_statistics, project

NAME = "hyperspherical"


def dense_layers(network):
    """Return all dense layers of a network."""
    leaves = jax.tree.leaves(network, is_leaf=lambda node: isinstance(node, Dense))
    return [leaf for leaf in leaves if isinstance(leaf, Dense)]


def assert_unit_columns(network):
    layers = dense_layers(network)
    assert len(layers) == 5
    for layer in layers:
        np.testing.assert_allclose(jnp.linalg.norm(layer.weight, axis=-2), 1.0, atol=1e-5)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def reference(network, x):
    """Compute the network by an unrolled loop over its parameters, in numpy."""
    options, depth = network.architecture, network.num_blocks
    network, x = jax.tree.map(np.asarray, (network, x))
    width = network.head.weight.shape[0]
    x = unit(np.concatenate([x, np.full((len(x), 1), options.shift)], axis=1)) @ network.input_layer.weight
    x = unit(x * network.input_scale.weight)
    for n in range(depth):
        block = jax.tree.map(lambda p, n=n: p[n], network.blocks)
        h = np.maximum(x @ block.up.weight * block.scale.weight, 0.0)
        # The step's parameters start at 1 / sqrt(width) and stand for 1 / (blocks + 1).
        alpha = block.step.weight * width**0.5 / (depth + 1)
        x = unit(x + alpha * (unit(h @ block.down.weight) - x))
    return x @ network.head_layer.weight * network.head_scale.weight @ network.head.weight + network.head.bias


@pytest.mark.parametrize("depth", [0, 2, 4, 8])
@pytest.mark.parametrize("options", [{}, {"shift": 0.5}, {"expansion": 2}], ids=str)
def test_equals_an_unrolled_reimplementation(x64, depth, options):
    network, x = build(NAME, depth=depth, **options), inputs(6, 5)
    np.testing.assert_allclose(apply(network, x), reference(network, x), rtol=1e-7, atol=1e-10)


def test_weight_vectors_have_length_one_at_first_and_after_every_projection():
    network, x = drawn(NAME), inputs(12, 5)
    assert_unit_columns(network)
    moved = eqx.apply_updates(network, jax.tree.map(lambda g: -0.1 * jnp.sign(g), gradient(network, x)))
    assert np.abs(jnp.linalg.norm(moved.blocks.up.weight, axis=-2) - 1.0).max() > 1e-2
    projected = project({"actor": moved, "other": (moved, jnp.ones(3))})
    assert_unit_columns(projected["actor"])
    assert_unit_columns(projected["other"][0])
    np.testing.assert_array_equal(projected["other"][1], jnp.ones(3))


def test_projection_keeps_directions_biases_and_scales():
    moved = build(NAME)
    projected = project(moved)
    for before, after in zip(dense_layers(moved), dense_layers(projected), strict=True):
        lengths = jnp.linalg.norm(before.weight, axis=-2, keepdims=True)
        np.testing.assert_allclose(after.weight * lengths, before.weight, rtol=1e-5)
    np.testing.assert_array_equal(projected.head.bias, moved.head.bias)
    for scaler in ("input_scale", "head_scale"):
        assert eqx.tree_equal(getattr(projected, scaler), getattr(moved, scaler))
    for scaler in ("scale", "step"):
        assert eqx.tree_equal(getattr(projected.blocks, scaler), getattr(moved.blocks, scaler))
    again = project(projected)
    for once, twice in zip(jax.tree.leaves(projected), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(once, twice, atol=1e-6)


def test_projection_of_stacked_seeds_is_that_of_each():
    networks = [build(NAME), jax.tree.map(lambda p: p + 0.1, build(NAME))]
    together = jax.vmap(project)(jax.tree.map(lambda *p: jnp.stack(p), *networks))
    for index, network in enumerate(networks):
        alone = jax.tree.leaves(project(network))
        for ours, expected in zip(jax.tree.leaves(together), alone, strict=True):
            np.testing.assert_allclose(ours[index], expected, rtol=1e-6)


def test_features_have_length_one_in_front_of_every_block_and_the_head():
    network, x = drawn(NAME, depth=16), 100.0 * inputs(12, 5)
    np.testing.assert_allclose(block_statistics(network, x)["stream_norm"], 1.0, atol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(network.trunk(x), axis=-1), 1.0, atol=1e-5)


def test_the_shift_keeps_the_length_of_the_input():
    x = inputs(6, 5)
    network = drawn(NAME)
    assert np.abs(apply(network, 2.0 * x) - apply(network, x)).max() > 1e-2
    unshifted = drawn(NAME, shift=1e-9)
    np.testing.assert_allclose(apply(unshifted, 2.0 * x), apply(unshifted, x), atol=1e-5)


@pytest.mark.parametrize(("depth", "step"), [(2, 1 / 2), (8, 1 / 5), (64, 1 / 33)])
def test_a_block_of_a_new_network_takes_one_step_of_one_over_blocks_plus_one(depth, step):
    network = drawn(NAME, depth=depth)
    ones = jnp.ones(8)
    first = jax.tree.map(lambda p: p[0], network.blocks.step)
    np.testing.assert_allclose(first(ones), step, rtol=1e-6)
    np.testing.assert_allclose(network.blocks.step.weight, 8**-0.5, rtol=1e-6)
    scaled = drawn(NAME, depth=depth, scaled_for_depth=62)
    np.testing.assert_allclose(jax.tree.map(lambda p: p[0], scaled.blocks.step)(ones), 1 / 32, rtol=1e-6)


def test_only_the_last_layer_has_a_bias():
    layers = dense_layers(drawn(NAME))
    assert [layer.bias is not None for layer in layers] == [False] * 4 + [True]


def test_silent_units_give_finite_gradients():
    network = drawn(NAME)
    silent = eqx.tree_at(lambda n: n.blocks.scale.weight, network, jnp.zeros_like(network.blocks.scale.weight))
    x = inputs(6, 5)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient(silent, x)))
    np.testing.assert_allclose(jnp.linalg.norm(silent.trunk(x), axis=-1), 1.0, atol=1e-5)


def test_growing_needs_a_step_that_stays():
    with pytest.raises(ConfigurationError, match=r"^scaled_for_depth=None .* set it to the depth that the network"):
        drawn(NAME, depth=8).graft(drawn(NAME, depth=4))
    architecture = HypersphericalArchitecture().growing_to(8)
    assert architecture.scaled_for_depth == 8
    assert architecture.growing_to(16) == architecture


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 3}, "depth=3 is not a multiple of 2, the layers of a block; try 2 or 4"),
        ({"shift": 0.0}, "shift=0.0 must be above 0"),
        ({"shift": float("nan")}, "shift=nan must be above 0"),
        ({"expansion": 0}, "expansion=0 must be at least 1"),
        ({"scaled_for_depth": 0}, "scaled_for_depth=0 must be at least 2"),
        ({"scaled_for_depth": 3}, "depth=3 is not a multiple of 2"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused_by_name(options, message):
    with pytest.raises(ConfigurationError) as error:
        drawn(NAME, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_matrices_are_decomposed_one_by_one():
    """Programs with several batches of them wait for ever on two cores (jaxlib 0.10)."""
    architecture = HypersphericalArchitecture()
    program = jax.make_jaxpr(lambda key: architecture.build(5, 3, depth=8, width=8, key=key))(jax.random.key(0))
    shapes = re.findall(r":f32\[([\d,]+)\] \w+:f32\[[\d,]+\] = qr\[", str(program))
    assert shapes
    assert all(shape.count(",") == 1 for shape in shapes)
