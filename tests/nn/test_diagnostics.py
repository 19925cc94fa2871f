"""What diagnostics say of networks whose insides are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.nn import ResidualArchitecture, ResidualMLP, block_statistics, effective_rank, gradient_norms, spread


def network(depth=8, **options):
    architecture = ResidualArchitecture(block_size=2, **options)
    return ResidualMLP(3, 2, depth=depth, width=16, architecture=architecture, key=jax.random.key(0))


X = jax.random.normal(jax.random.key(1), (32, 3))


@pytest.mark.parametrize("options", [{}, {"residual_scaling": "inverse_sqrt"}, {"residual": False}])
def test_norms_are_those_of_a_walk_block_by_block(options):
    mlp = network(**options)
    found = block_statistics(mlp, X)
    x = mlp.input_layer(X)
    for n in range(4):
        block = jax.tree.map(lambda p, n=n: p[n], mlp.blocks)
        h = jax.tree.map(lambda p: p[1], block)(jax.tree.map(lambda p: p[0], block)(x))
        added = h * (0.5 if "residual_scaling" in options else 1.0)
        assert found["stream_norm"][n] == pytest.approx(np.linalg.norm(x, axis=1).mean(), rel=1e-5)
        assert found["residual_norm"][n] == pytest.approx(np.linalg.norm(added, axis=1).mean(), rel=1e-5)
        x = added if options.get("residual") is False else x + added
    np.testing.assert_allclose(mlp.trunk(X), x, rtol=1e-5, atol=1e-6)


def test_units_that_never_react_count_as_dead():
    mlp = network()
    assert not np.any(block_statistics(mlp, X)["dead_units"])
    # An offset far below zero silences four of sixteen units in one of two layers of the second block.
    silenced = eqx.tree_at(lambda m: m.blocks.norm.offset, mlp, mlp.blocks.norm.offset.at[1, 0, :4].set(-100.0))
    after = block_statistics(silenced, X)["dead_units"]
    np.testing.assert_allclose(after, [0.0, 4 / 32, 0.0, 0.0])


def test_gradient_norms_are_lengths_by_block():
    mlp = network()
    gradient = jax.grad(lambda mlp: jnp.sum(mlp(X) ** 2))(mlp)
    found = gradient_norms(gradient)
    leaves = jax.tree.leaves(gradient.blocks)
    for n in range(4):
        assert found[n] == pytest.approx(np.linalg.norm(np.concatenate([leaf[n].ravel() for leaf in leaves])), rel=1e-5)


def test_a_network_without_blocks_has_nothing_to_tell():
    mlp = network(depth=0)
    assert all(value.shape == (0,) for value in block_statistics(mlp, X).values())
    assert gradient_norms(mlp).shape == (0,)


@pytest.mark.parametrize("dimensions", [1, 3, 8])
def test_effective_rank_is_the_number_of_equal_directions(dimensions):
    rng = np.random.default_rng(0)
    directions, _ = np.linalg.qr(rng.standard_normal((8, 8)))
    points = np.concatenate([np.eye(dimensions), -np.eye(dimensions)]) @ directions[:dimensions]
    assert float(effective_rank(jnp.asarray(points + 5.0, jnp.float32))) == pytest.approx(dimensions, rel=1e-3)
    assert float(spread(jnp.asarray(points + 5.0, jnp.float32))) == pytest.approx(1.0, rel=1e-4)


def test_one_point_has_no_spread_and_no_rank_above_one():
    points = jnp.ones((5, 4))
    assert float(spread(points)) == 0.0
    assert float(effective_rank(points)) == pytest.approx(1.0)
