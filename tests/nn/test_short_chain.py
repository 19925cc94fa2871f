"""The short chain computes what the plain form computes, and has fewer products that wait for each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kilolayer as kl
from kilolayer.bench.flops import gradient_step_flops, products_in_a_chain
from kilolayer.errors import ConfigurationError
from kilolayer.nn import ResidualArchitecture, ResidualMLP, TransformerArchitecture, call_together
from kilolayer.training import Setup
from small_runs import small_config

FORMS = {
    "as the paper has it": {},
    "rms": {"normalization": "rms"},
    "no normalisation": {"normalization": "none", "activation": "relu"},
    "no residual connections": {"residual": False},
    "scaled branches": {"residual_scaling": "inverse_sqrt", "activation": "gelu"},
    "blocks of one layer": {"block_size": 1},
    "two blocks in a turn": {"unroll": 2},
    "bfloat16": {"precision": "bfloat16"},
}


def network(form, chain, *, sizes=(5, 3), depth=8, seed=0):
    architecture = ResidualArchitecture(chain=chain, **form)
    return ResidualMLP(*sizes, depth=depth, width=16, architecture=architecture, key=jax.random.key(seed))


def inputs(*shape, seed=1):
    return jax.random.normal(jax.random.key(seed), shape)


def loss(network, x):
    return jnp.sum(jnp.sin(network(x)))


def assert_close(found, expected, rtol=2e-5):
    for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(own, other, rtol=rtol, atol=rtol * float(jnp.abs(other).max() + 1e-3))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("shape", [(2, 3, 5), *(pytest.param(each, marks=pytest.mark.slow) for each in [(7, 5), (5,)])])
def test_values_and_gradients_are_those_of_the_plain_form(form, shape):
    x = inputs(*shape)
    with_gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    assert_close(with_gradients(network(form, "short"), x), with_gradients(network(form, "plain"), x))


def test_in_float64_they_agree_to_its_digits():
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).standard_normal((7, 5)))
        short, plain = (
            jax.tree.map(lambda p: p.astype(jnp.float64), network({}, chain)) for chain in ("short", "plain")
        )
        assert_close(jax.grad(loss)(short, x), jax.grad(loss)(plain, x), rtol=1e-11)


def test_seeds_by_vmap_and_loops_of_steps_take_it():
    def trained(network, x):
        def step(network, x):
            gradient = jax.grad(loss)(network, x)
            return jax.tree.map(lambda p, g: p - 0.01 * g, network, gradient), None

        return jax.lax.scan(step, network, x)[0]

    keys, x = jax.random.split(jax.random.key(0), 3), inputs(4, 7, 5)

    def of(chain):
        architecture = ResidualArchitecture(chain=chain)
        networks = jax.vmap(lambda key: ResidualMLP(5, 3, depth=8, width=16, architecture=architecture, key=key))(keys)
        return jax.jit(jax.vmap(trained, in_axes=(0, None)))(networks, x)

    assert_close(of("short"), of("plain"))


def test_a_network_without_blocks_has_no_chain():
    assert_close(network({}, "short", depth=0)(inputs(7, 5)), network({}, "plain", depth=0)(inputs(7, 5)))


# Together


def several(chain):
    """Three networks that can walk as one, among one of another depth and one with fewer rows."""
    calls = [
        (network({}, chain, sizes=(5, 3), seed=0), inputs(7, 5)),
        (network({}, chain, sizes=(2, 4), seed=1), inputs(7, 2)),
        (network({}, chain, sizes=(5, 3), depth=4, seed=2), inputs(7, 5)),
        (network({}, chain, sizes=(9, 1), seed=3), inputs(7, 9)),
        (network({}, chain, sizes=(5, 3), seed=4), inputs(6, 5)),
    ]
    return [torso for torso, _ in calls], [x for _, x in calls]


def test_networks_of_equal_shape_walk_as_one_and_give_the_same():
    def total(torsos, xs):
        return sum(jnp.sum(jnp.sin(out)) for out in call_together(list(zip(torsos, xs, strict=True))))

    def one_by_one(torsos, xs):
        return sum(loss(torso, x) for torso, x in zip(torsos, xs, strict=True))

    torsos, xs = several("short")
    assert_close(jax.jit(jax.grad(total))(torsos, xs), jax.jit(jax.grad(one_by_one))(torsos, xs))
    assert str(jax.make_jaxpr(total)(torsos, xs)).count("custom_vjp_call") == 3
    torsos, xs = several("plain")
    assert "custom_vjp_call" not in str(jax.make_jaxpr(total)(torsos, xs))


def test_another_kind_of_torso_walks_together_too():
    architecture = TransformerArchitecture(chain="short", heads=2)
    torsos = [architecture.build(6, 3, depth=8, width=8, key=jax.random.key(seed)) for seed in range(2)]
    xs = [inputs(5, 6), inputs(5, 6, seed=2)]
    together = call_together(list(zip(torsos, xs, strict=True)))
    assert_close(together, [torso(x) for torso, x in zip(torsos, xs, strict=True)])


# The settings


def test_auto_is_plain_on_a_cpu_and_unknown_names_are_one_line():
    settings = ResidualArchitecture().resolve(batch_size=64, depth=8, width=16)
    assert (settings.chain, settings.remat) == ("plain", "layer")
    with pytest.raises(ConfigurationError, match="chain='long'"):
        kl.default_config("reacher", architecture={"chain": "long"})
    with pytest.raises(ConfigurationError, match="chain='short' keeps every product, so remat='block' must be auto or"):
        ResidualArchitecture(chain="short", remat="block")


def test_auto_is_short_on_a_gpu_where_it_fits(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    sizes = {"batch_size": 512, "depth": 64, "width": 256}
    for memory, chain, remat in ((80 * 2**30, "short", "layer"), (2 * 2**30, "plain", "layer"), (2**29, "plain", None)):
        monkeypatch.setattr("kilolayer.nn.stack.device_memory", lambda memory=memory: memory)
        found = ResidualArchitecture().resolve(**sizes)
        assert found.chain == chain
        assert remat is None or found.remat == remat
    monkeypatch.setattr("kilolayer.nn.stack.device_memory", lambda: 80 * 2**30)
    assert ResidualArchitecture(remat="block").resolve(**sizes).chain == "plain"
    assert ResidualArchitecture(chain="plain").resolve(**sizes).chain == "plain"


# The length of the chain


def setup_with(chain, depth):
    config = small_config(depth=depth, width=16, architecture={"chain": chain})
    return Setup.build(config)


def test_a_layer_of_crl_has_four_products_in_the_chain_and_the_step_no_more_arithmetic():
    short, plain = setup_with("short", 64), setup_with("plain", 64)
    assert products_in_a_chain(short) == 4 * 64
    assert products_in_a_chain(plain) == 11 * 64
    assert gradient_step_flops(short) == gradient_step_flops(plain)
