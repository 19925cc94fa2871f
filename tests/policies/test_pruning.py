"""The order in which blocks are left out: the block first that changes the actions least."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.errors import ConfigurationError
from kilolayer.nn import ResidualMLP
from kilolayer.policies.pruning import order_blocks
from kilolayer.training.pruning import points_of

INPUTS = np.random.default_rng(0).standard_normal((32, 6)).astype(np.float32)
SIZES = [1.0, 0.0, 0.3, 0.1]
"""Factors on what the blocks add."""


@pytest.fixture(scope="module")
def actor():
    network = ResidualMLP(6, 4, depth=16, width=8, key=jax.random.key(1))
    scale = network.blocks.norm.scale
    return eqx.tree_at(lambda n: n.blocks.norm.scale, network, scale.at[:, -1].mul(jnp.asarray(SIZES)[:, None]))


@pytest.mark.parametrize("order", ["again", "once", "auto"])
def test_the_blocks_that_add_least_go_first(actor, order):
    said = []
    found = order_blocks(actor, INPUTS, 2, order=order, log=lambda done, of: said.append((done, of)))
    assert found.left_out == (1, 3, 2)
    assert found.alone[1] < 1e-6 < found.alone[3] < found.alone[2] < found.alone[0]
    assert said == [(1, 3), (2, 3), (3, 3)]
    assert [found.kept(keep) for keep in (4, 3, 2, 1)] == [(0, 1, 2, 3), (0, 2, 3), (0, 2), (0,)]
    np.testing.assert_array_equal(found.mask(2), [True, False, True, False])


def test_errors_are_those_of_the_actions_of_what_is_left(actor):
    found = order_blocks(actor, INPUTS, 2)
    for keep, mean, largest in zip((3, 2, 1), found.errors, found.largest, strict=True):
        left = actor.keep_blocks(found.kept(keep))
        difference = np.abs(np.subtract(*(np.tanh(each(jnp.asarray(INPUTS))[:, :2]) for each in (left, actor))))
        np.testing.assert_allclose([mean, largest], [difference.mean(), difference.max()], atol=1e-6)


def test_once_follows_the_ranking_of_all_blocks_and_again_loses_no_more():
    network = ResidualMLP(6, 4, depth=12, width=8, key=jax.random.key(2))
    found = {order: order_blocks(network, INPUTS, 2, order=order) for order in ("again", "once")}
    assert found["again"].alone == found["once"].alone
    ranked = sorted(range(3), key=lambda block: found["once"].alone[block])
    assert list(found["once"].left_out) == ranked[:2]
    assert found["again"].errors[1] <= found["once"].errors[1]


@pytest.mark.parametrize("keep", [0, -1, 5])
def test_no_block_or_more_than_all_cannot_stay(actor, keep):
    with pytest.raises(ConfigurationError, match=f"keep={keep} must be from 1 to 4"):
        order_blocks(actor, INPUTS, 2).kept(keep)


def test_an_unknown_order_is_refused(actor, no_type_checks):
    with pytest.raises(ConfigurationError, match="order='up' is unknown; choose one of auto, again, once"):
        order_blocks(actor, INPUTS, 2, order="up")


def test_a_curve_has_every_number_of_blocks_or_a_few():
    assert list(points_of(4, 16)) == [4, 3, 2, 1]
    few = points_of(256, 8)
    assert (few[0], few[-1], len(few)) == (256, 1, 8)
    assert list(few) == sorted(few, reverse=True)
