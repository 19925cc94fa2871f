"""What every kind of torso does, whichever is registered."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from networks import apply, build, count_equations, drawn, gradient, inputs, loss, saved_activations, shapes

from kilolayer.errors import ConfigurationError
from kilolayer.nn import block_statistics, gradient_norms, project, torso_names, torso_spec

every_torso = pytest.mark.parametrize("name", torso_names())
DEPTH_OF_A_BLOCK = {"residual_mlp": 4, "hyperspherical": 2, "transformer": 4}


def test_the_library_has_three_kinds():
    assert set(DEPTH_OF_A_BLOCK) <= set(torso_names())


# ---- Shapes and parameters -----------------------------------------------------------------------------------


@every_torso
@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 1, 3)])
def test_leading_axes_are_free(x64, name, shape):
    network, x = build(name), inputs(*shape, 5)
    y = apply(network, x)
    assert y.shape == (*shape, 3)
    rows = [apply(network, row) for row in x.reshape(-1, 5)]
    np.testing.assert_allclose(y.reshape(-1, 3), np.stack(rows), rtol=1e-9, atol=1e-12)


@every_torso
@pytest.mark.parametrize("depth", [0, 4, 8, 12, 64])
def test_every_multiple_of_four_is_a_depth(name, depth):
    network = shapes(name, depth=depth)
    assert network.depth == depth
    assert network.num_blocks == depth // DEPTH_OF_A_BLOCK[name] == network.architecture.num_blocks(depth)
    assert network.architecture == torso_spec(name).settings()


@every_torso
def test_a_key_draws_a_network_and_another_key_another(name):
    first, again, other = (drawn(name, seed=seed) for seed in (0, 0, 1))
    assert eqx.tree_equal(first, again)
    x = inputs(4, 5)
    assert np.all(apply(first, x) != apply(other, x))
    leaves = jax.tree.leaves(first.block_parameters())
    assert any(np.all(leaf[0] != leaf[1]) for leaf in leaves), "blocks share their draws"


@every_torso
def test_a_network_without_blocks_works(name):
    network = drawn(name, depth=0)
    assert network.block_parameters() is None
    assert apply(network, inputs(4, 5)).shape == (4, 3)
    assert all(value.shape == (0,) for value in block_statistics(network, inputs(4, 5)).values())
    assert gradient_norms(network).shape == (0,)
    assert eqx.tree_equal(network.quantize(), network)


# ---- Gradients and rematerialisation -------------------------------------------------------------------------


@every_torso
def test_gradient_reaches_every_parameter_and_agrees_with_finite_differences(x64, name):
    network, x = build(name), inputs(6, 5)
    slopes = gradient(network, x)
    assert all(np.any(leaf) and np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(slopes))
    direction = jax.tree.map(lambda p: inputs(*p.shape, seed=2), network)
    slope = sum(map(np.vdot, jax.tree.leaves(slopes), jax.tree.leaves(direction)))
    ahead, behind = (jax.tree.map(lambda p, d, h=h: p + h * d, network, direction) for h in (1e-6, -1e-6))
    assert float(loss(ahead, x) - loss(behind, x)) / 2e-6 == pytest.approx(slope, rel=1e-5)


@every_torso
def test_a_new_network_has_finite_gradients_at_a_constant_input(name):
    for x in (jnp.zeros((3, 5)), jnp.full((3, 5), 1e4)):
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient(drawn(name, depth=64), x)))


@functools.cache
def without_remat(name):
    network, x = build(name, depth=20, remat="none"), inputs(37, 5)
    return apply(network, x), gradient(network, x), saved_activations(network, x)


@every_torso
@pytest.mark.parametrize("remat", ["layer", "block", "3"])
def test_remat_changes_memory_but_neither_output_nor_gradient(name, remat):
    network, x = build(name, depth=20, remat=remat), inputs(37, 5)
    output, expected, saved = without_remat(name)
    np.testing.assert_allclose(apply(network, x), output, rtol=1e-5, atol=1e-5)
    for ours, slope in zip(*map(jax.tree.leaves, (gradient(network, x), expected)), strict=True):
        np.testing.assert_allclose(ours, slope, rtol=1e-4, atol=2e-5 * max(1e-3, np.abs(slope).max()))
    assert 0 < saved_activations(network, x) < 0.8 * saved


@every_torso
@pytest.mark.parametrize("remat", ["auto", "block", "2"])
def test_inference_is_a_call_in_one_scan(x64, name, remat):
    network, x = build(name, depth=20, remat=remat), inputs(6, 5)
    np.testing.assert_allclose(jax.jit(lambda n, x: n.infer(x))(network, x), apply(network, x), rtol=1e-9, atol=1e-12)
    program = jax.make_jaxpr(lambda n, x: n.infer(x))(network, x)
    assert "remat" not in str(program)
    assert "remat" in str(jax.make_jaxpr(lambda n, x: n(x))(network, x))


@every_torso
def test_auto_takes_what_fits_into_memory(name, monkeypatch):
    settings = torso_spec(name).settings()
    sizes = {"batch_size": 512, "depth": 1024, "width": 256}
    chosen = []
    for memory in (2**50, 2**30):
        monkeypatch.setattr("kilolayer.nn.stack.device_memory", lambda memory=memory: memory)
        chosen.append(settings.resolve(**sizes).remat)
    assert chosen[0] == "layer"
    assert chosen[1].isdecimal()
    own = {"kernels": "xla"} if name == "residual_mlp" else {}
    fixed = dataclasses.replace(settings, remat="block", chain="plain", **own)
    assert fixed.resolve(**sizes) == fixed


@every_torso
@pytest.mark.parametrize("width", [8, 16])
def test_the_numbers_that_auto_counts_with_are_those_of_a_block(name, width):
    network = shapes(name, in_size=16, depth=64, width=width, remat="block")
    numbers = network.architecture.block_numbers(width)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(network.block_parameters()))
    assert parameters == numbers.parameters * network.num_blocks
    shallow = shapes(name, in_size=16, depth=32, width=width, remat="block")
    x, more = inputs(37, 16), network.num_blocks - shallow.num_blocks
    kept = saved_activations(network, x) - saved_activations(shallow, x)
    assert kept == more * 37 * numbers.stream
    layers = [shapes(name, in_size=16, depth=depth, width=width, remat="layer") for depth in (64, 32)]
    kept = saved_activations(layers[0], x) - saved_activations(layers[1], x)
    assert kept == more * 37 * (numbers.stream + numbers.products)


# ---- One compiled block --------------------------------------------------------------------------------------


@every_torso
@pytest.mark.parametrize("remat", ["none", "layer", "block"])
def test_program_does_not_grow_with_depth(name, remat):
    def equations(depth):
        network = shapes(name, depth=depth, remat=remat)
        return count_equations(jax.make_jaxpr(jax.value_and_grad(loss))(network, inputs(2, 5)))

    assert equations(4) > equations(0) > 10
    assert equations(4) == equations(64)


@every_torso
def test_drawing_a_network_does_not_grow_with_depth(name):
    def equations(depth):
        settings = torso_spec(name).settings()
        draw = functools.partial(settings.build, 5, 3, depth=depth, width=8)
        return count_equations(jax.make_jaxpr(lambda key: jax.tree.leaves(draw(key=key)))(jax.random.key(0)))

    assert equations(4) == equations(64)


# ---- Seeds at once -------------------------------------------------------------------------------------------


@pytest.mark.slow
@every_torso
def test_a_vmap_over_keys_is_a_loop_over_keys(x64, name):
    settings, x, keys = torso_spec(name).settings(), inputs(4, 5), jax.random.split(jax.random.key(3), 3)

    def output(key):
        return settings.build(5, 3, depth=8, width=8, key=key)(x)

    together = jax.jit(jax.vmap(output))(keys)
    alone = [jax.jit(output)(key) for key in keys]
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-9, atol=1e-12)


def learned(name, key, steps=150, depth=8, **options):
    """Return the losses of gradient steps towards a function of the inputs."""
    network = torso_spec(name).settings(**options).build(5, 2, depth=depth, width=16, key=key)
    x = inputs(64, 5).astype(jnp.float32)
    target = jnp.stack([jnp.sin(2.0 * x[:, 0]), x[:, 1] * x[:, 2]], axis=-1)
    optimizer = optax.adam(3e-3)

    def error(network):
        return jnp.mean(jnp.square(network(x) - target))

    def step(carry, _):
        network, state = carry
        value, slope = jax.value_and_grad(error)(network)
        updates, state = optimizer.update(slope, state)
        return (project(optax.apply_updates(network, updates)), state), value

    return jax.lax.scan(step, (network, optimizer.init(network)), None, steps)[1]


@pytest.mark.slow
@every_torso
def test_seeds_learn_side_by_side_in_one_scan(name):
    losses = jax.jit(jax.vmap(functools.partial(learned, name)))(jax.random.split(jax.random.key(0), 2))
    assert np.all(np.isfinite(losses))
    assert np.all(losses[:, -1] < 0.5 * losses[:, 0])
    assert losses[0, -1] != losses[1, -1]


# ---- Diagnostics ---------------------------------------------------------------------------------------------


@every_torso
def test_diagnostics_describe_every_block(name):
    network, x = drawn(name, depth=16), inputs(12, 5)
    statistics = jax.jit(block_statistics)(network, x)
    for value in (*statistics.values(), gradient_norms(gradient(network, x))):
        assert value.shape == (network.num_blocks,)
        assert np.all(np.isfinite(value))
    assert np.all(statistics["stream_norm"] > 0.0)
    assert np.all(statistics["residual_norm"] > 0.0)
    assert np.all(statistics["dead_units"] < 0.6)


@every_torso
def test_what_blocks_add_sums_up_to_the_trunk(x64, name):
    network, x = build(name), inputs(6, 5)
    added = network.observe_blocks(x, lambda stream, added, layers: added)
    expected = (network.trunk(x) - network.embed(x)).reshape(added.shape[1:])
    np.testing.assert_allclose(jnp.sum(added, axis=0), expected, rtol=1e-9, atol=1e-12)


# ---- Growth --------------------------------------------------------------------------------------------------


@every_torso
def test_a_grown_network_is_the_same_function_and_its_new_blocks_learn(name):
    settings, x = torso_spec(name).settings().growing_to(16), inputs(12, 5)
    settings.check_growable()
    shallow = settings.build(5, 3, depth=4, width=8, key=jax.random.key(0))
    rng = np.random.default_rng(1)
    shallow = jax.tree.map(lambda p: jnp.asarray(p + 0.1 * rng.standard_normal(p.shape), jnp.float32), shallow)
    deep = settings.build(5, 3, depth=16, width=8, key=jax.random.key(1)).graft(shallow)
    assert deep.depth == 16
    kept = shallow.num_blocks
    assert eqx.tree_equal(jax.tree.map(lambda p: p[:kept], deep.blocks), shallow.blocks)
    output = apply(shallow, x)
    np.testing.assert_allclose(apply(deep, x), output, rtol=0.0, atol=1e-5 * float(jnp.abs(output).max()))
    assert np.all(gradient_norms(gradient(deep, x)) > 0.0)
    stepped = eqx.apply_updates(deep, jax.tree.map(lambda g: -0.05 * jnp.sign(g), gradient(deep, x)))
    slopes = jax.tree.leaves(gradient(stepped, x).block_parameters())
    assert all(np.any(leaf[block]) for leaf in slopes for block in range(kept, deep.num_blocks))


@every_torso
def test_moments_of_new_blocks_are_zero(name):
    settings = torso_spec(name).settings().growing_to(8)
    shallow, deep = (settings.build(5, 3, depth=depth, width=8, key=jax.random.key(0)) for depth in (4, 8))
    moments = jax.tree.map(jnp.zeros_like, deep).graft(shallow)
    assert eqx.tree_equal(jax.tree.map(lambda p: p[: shallow.num_blocks], moments.blocks), shallow.blocks)
    assert not any(np.any(leaf[shallow.num_blocks :]) for leaf in jax.tree.leaves(moments.blocks))


@every_torso
def test_wrong_growth_is_refused_in_one_line(name):
    other = "transformer" if name != "transformer" else "residual_mlp"
    with pytest.raises(ConfigurationError, match=r"^\w+ cannot grow into a \w+$"):
        drawn(name).graft(drawn(other))
    with pytest.raises(ConfigurationError, match=r"^depth=4 is less than the network's own 8; it can only grow$"):
        drawn(name, depth=4).graft(drawn(name, depth=8))


# ---- 8 bit weights -------------------------------------------------------------------------------------------


@every_torso
def test_int8_is_near_the_network_in_fewer_bytes(name):
    network, x = drawn(name, width=64), inputs(6, 5)
    int8 = network.quantize()
    assert type(int8) is type(network)
    exact = np.asarray(apply(network, x))
    error = np.abs(apply(int8, x) - exact).max() / np.abs(exact).max()
    assert 1e-5 < error < 0.05
    sizes = [sum(leaf.nbytes for leaf in jax.tree.leaves(tree.blocks)) for tree in (network, int8)]
    assert sizes[1] < 0.35 * sizes[0]
    for row, output in zip(x, apply(int8, x), strict=True):
        np.testing.assert_allclose(apply(int8, row), output, rtol=1e-3, atol=1e-4)


# ---- Settings ------------------------------------------------------------------------------------------------


@every_torso
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_reaches_every_dense_product(name, precision):
    network, x = shapes(name, precision=precision, remat="none"), inputs(6, 5).astype(jnp.float32)
    text = jax.jit(jax.grad(loss)).lower(network, x).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    if precision == "float32":
        assert all("HIGHEST" in line for line in products)
    else:
        rounded = [line for line in products if line.split(" : ")[-1].count("bf16>") == 2]
        # The products of the attention, two forwards and four backwards, stay float32.
        assert len(products) - len(rounded) == (6 if name == "transformer" else 0)
        assert all(line.endswith("xf32>") for line in rounded)


@every_torso
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 3}, "depth=3 is not a multiple of "),
        ({"depth": 5}, "; try 4 or "),
        ({"depth": -4}, "depth=-4 must be 0 or a multiple of "),
        ({"width": 0}, "width=0 must be at least 1"),
        ({"in_size": 0}, "in_size=0 must be at least 1"),
        ({"out_size": -1}, "out_size=-1 must be at least 1"),
        ({"remat": "0"}, "remat='0' is unknown; use auto, none, layer, block, or a number of blocks such as 8"),
        ({"unroll": 0}, "unroll=0 must be at least 1"),
        ({"precision": "float16"}, "precision='float16' is unknown; choose one of float32, tf32, bfloat16"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_impossible_settings_are_refused_by_name(no_type_checks, name, options, message):
    with pytest.raises(ConfigurationError) as error:
        shapes(name, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@every_torso
def test_unrolling_changes_the_program_and_not_the_function(x64, name):
    one, two = (build(name, depth=16, remat="none", unroll=turns) for turns in (1, 2))
    x = inputs(6, 5)
    np.testing.assert_allclose(apply(one, x), apply(two, x), rtol=1e-12)
    plain, longer = (apply.lower(each, x).compile().as_text().count(" dot(") for each in (one, two))
    assert longer > plain
