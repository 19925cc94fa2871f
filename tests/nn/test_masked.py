"""Blocks that are left out: as data in a masked torso, and for good."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.errors import ConfigurationError
from kilolayer.nn import ResidualArchitecture, torso_names, torso_spec, with_all_blocks

X = jnp.asarray(np.random.default_rng(0).standard_normal((5, 6)), jnp.float32)


def network(name="residual_mlp", depth=3, **settings):
    architecture = torso_spec(name).settings(**settings)
    depth *= architecture.layers_per_block
    return architecture.build(6, 4, depth=depth, width=8, key=jax.random.key(1))


@pytest.mark.parametrize("name", torso_names())
def test_a_masked_torso_computes_what_is_left(name):
    torso = network(name)
    masked = with_all_blocks(torso)
    np.testing.assert_allclose(masked(X), torso(X), rtol=1e-5, atol=1e-6)
    for kept in ([0, 2], [1], [0, 1, 2]):
        mask = jnp.asarray([number in kept for number in range(3)])
        left = torso.keep_blocks(kept)
        assert left.num_blocks == len(kept)
        np.testing.assert_allclose(dataclasses.replace(masked, kept=mask)(X), left(X), rtol=1e-5, atol=1e-6)
    none = torso.keep_blocks([])
    np.testing.assert_allclose(dataclasses.replace(masked, kept=jnp.zeros(3, bool))(X), none(X), rtol=1e-5, atol=1e-6)


def test_blocks_that_stay_keep_the_factor_of_all():
    torso = network(depth=4, residual_scaling="inverse_sqrt")
    left = torso.keep_blocks([1, 2])
    assert left.branch_factor == torso.branch_factor == 0.5
    assert left.architecture == dataclasses.replace(torso.architecture, scaled_for_depth=16)


@pytest.mark.parametrize("kept", [[3], [-1], [1, 0], [0, 0]])
def test_what_is_no_block_is_refused(kept):
    with pytest.raises(ConfigurationError, match="must be rising numbers from 0 to 2"):
        network().keep_blocks(kept)


def test_a_network_without_blocks_has_none_to_leave_out():
    with pytest.raises(ConfigurationError, match="has no block"):
        with_all_blocks(ResidualArchitecture().build(6, 4, depth=0, width=8, key=jax.random.key(1)))
