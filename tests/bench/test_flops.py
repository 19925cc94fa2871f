"""The operations of a gradient step are counted as by hand, through scans, branches and whatever holds a program."""

import jax
import jax.numpy as jnp
import pytest

from kilolayer.agents import agent_specs
from kilolayer.bench.flops import gradient_step_flops, matrix_products
from kilolayer.bench.step import matrix_operations
from kilolayer.errors import ConfigurationError
from kilolayer.training import Setup
from small_runs import small_config

ROWS, WIDTH = 8, 16
PRODUCT = 2 * ROWS * WIDTH * WIDTH
X, W = jnp.zeros((ROWS, WIDTH)), jnp.zeros((5, WIDTH, WIDTH))


def scanned(x, w):
    return jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0]


def flops(function, *arguments):
    return matrix_products(jax.make_jaxpr(function)(*arguments).jaxpr)


def of(**settings):
    return gradient_step_flops(Setup.build(small_config(batch_size=32, **settings)))


@pytest.mark.parametrize(
    ("function", "products"),
    [
        (lambda x, w: x @ w[0], 1),
        (lambda x, w: jnp.tanh(x) + 1.0, 0),
        (scanned, 5),
        (lambda x, w: jax.lax.scan(lambda x, _: (scanned(x, w), None), x, length=3)[0], 15),
        (lambda x, w: jax.jit(jax.checkpoint(scanned))(x, w), 5),
        (lambda x, w: jax.lax.cond(x[0, 0] > 0, lambda: scanned(x, w), lambda: x @ w[0]), 5),
        (lambda x, w: jax.vmap(lambda row: row @ w[0])(x), 1),
        # Forwards, to the inputs, and to the weights.
        (lambda x, w: jax.grad(lambda x, w: scanned(x, w).sum(), argnums=(0, 1))(x, w), 15),
        (lambda x, w: jax.lax.fori_loop(0, 4, lambda _, x: x @ w[0], x), 4),
    ],
)
def test_products_are_counted_as_often_as_they_are_taken(function, products):
    assert flops(function, X, W) == products * PRODUCT


def test_a_loop_without_a_count_is_refused_if_it_multiplies():
    def loop(x, w):
        return jax.lax.while_loop(lambda x: x[0, 0] < 1.0, lambda x: x @ w[0], x)

    with pytest.raises(ConfigurationError, match="write it as a scan"):
        flops(loop, X, W)
    assert flops(lambda x: jax.lax.while_loop(lambda x: x[0, 0] < 1.0, lambda x: x + 1.0, x), X) == 0.0


@pytest.mark.parametrize("depth", [0, 4, 16])
def test_a_gradient_step_takes_what_is_counted_by_hand(depth):
    setup = Setup.build(small_config(batch_size=32, depth=depth))
    assert gradient_step_flops(setup) == pytest.approx(matrix_operations(setup.agent), rel=0.03)


def test_layers_cost_alike_and_all_but_them_is_little():
    by_depth = {depth: of(depth=depth, width=64) for depth in (8, 16, 32)}
    assert by_depth[32] - by_depth[16] == pytest.approx(2 * (by_depth[16] - by_depth[8]))
    assert 1.8 < by_depth[32] / by_depth[16] < 2.0


def test_layers_computed_again_count_again():
    kept, again = (of(depth=16, architecture={"remat": remat}) for remat in ("none", "block"))
    assert 1.1 * kept < again < 1.5 * kept


@pytest.mark.parametrize(
    "agent",
    [
        pytest.param(spec.name, marks=[] if spec.name in ("crl", "survival", "sac_her") else [pytest.mark.slow])
        for spec in agent_specs()
        if not spec.discrete
    ],
)
def test_every_agent_is_counted(agent):
    shallow, deep = (of(agent=agent, depth=depth, width=64) for depth in (8, 16))
    assert 1.5 * shallow < deep < 2.0 * shallow
