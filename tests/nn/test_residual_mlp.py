import functools
import os

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilolayer.errors import ConfigurationError
from kilolayer.memory import device_memory
from kilolayer.nn import ResidualArchitecture, ResidualMLP
from kilolayer.nn.remat import BlockNumbers, choose_remat

ACTIVATIONS = {
    "swish": lambda x: x / (1.0 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0.0),
    "gelu": lambda x: 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))),
}


def shapes(in_size=5, out_size=3, depth=8, width=8, **options):
    architecture = ResidualArchitecture(**options)
    return jax.eval_shape(
        lambda key: ResidualMLP(in_size, out_size, depth=depth, width=width, architecture=architecture, key=key),
        jax.random.key(0),
    )


def build(**options):
    """Build a network whose every parameter, biases and scales too, is random and depends on its name."""

    def draw(path, leaf):
        rng = np.random.default_rng(list(jax.tree_util.keystr(path).encode()))
        return jnp.asarray(0.4 * rng.standard_normal(leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes(**options))


def inputs(*shape, seed=1):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def reference(mlp, x):
    """Compute the network by an unrolled loop over its parameters, in numpy."""
    options = mlp.architecture

    def layer(parameters, x):
        h = x @ parameters.dense.weight + parameters.dense.bias
        if options.normalization == "layer":
            h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-6)
            h = h * parameters.norm.scale + parameters.norm.offset
        if options.normalization == "rms":
            h = h / np.sqrt((h**2).mean(-1, keepdims=True) + 1e-6) * parameters.norm.scale
        return ACTIVATIONS[options.activation](h)

    mlp, x = jax.tree.map(np.asarray, (mlp, x))
    x = layer(mlp.input_layer, x)
    num_blocks = 0 if mlp.blocks is None else len(mlp.blocks.dense.weight)
    factor = num_blocks**-0.5 if options.residual_scaling == "inverse_sqrt" else 1.0
    for n in range(num_blocks):
        h = x
        for k in range(options.block_size):
            h = layer(jax.tree.map(lambda p, n=n, k=k: p[n, k], mlp.blocks), h)
        x = x + factor * h if options.residual else factor * h
    return x @ mlp.head.weight + mlp.head.bias


def transplant(parameters, mlp):
    """Return `mlp` with the parameters of a network that differs in its options alone."""
    return jax.tree.unflatten(jax.tree.structure(mlp), jax.tree.leaves(parameters))


apply = jax.jit(lambda mlp, x: mlp(x))


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


# ---- The function it computes ------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 4, 8])
@pytest.mark.parametrize("block_size", [1, 2, 4])
def test_equals_an_unrolled_reimplementation(x64, depth, block_size):
    mlp = build(depth=depth, block_size=block_size)
    x = inputs(6, 5)
    np.testing.assert_allclose(apply(mlp, x), reference(mlp, x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "relu"},
        {"activation": "gelu"},
        {"normalization": "rms"},
        {"normalization": "none"},
        {"residual": False},
        {"residual_scaling": "inverse_sqrt"},
        {"activation": "relu", "normalization": "rms", "residual_scaling": "inverse_sqrt"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_each_option_changes_the_function_as_stated(x64, options):
    x = inputs(6, 5)
    mlp, default = build(block_size=2, **options), build(block_size=2)
    np.testing.assert_allclose(apply(mlp, x), reference(mlp, x), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(mlp.head.weight, default.head.weight)
    assert np.abs(apply(mlp, x) - apply(default, x)).min() > 1e-5


def test_block_size_changes_the_function_of_the_same_weights(x64):
    one_block = build(depth=4, block_size=4)
    halves = jax.tree.map(lambda p: p.reshape(2, 2, *p.shape[2:]), one_block.blocks)
    two_blocks = transplant(eqx.tree_at(lambda m: m.blocks, one_block, halves), build(depth=4, block_size=2))
    x = inputs(6, 5)
    np.testing.assert_allclose(apply(two_blocks, x), reference(two_blocks, x), rtol=1e-9)
    assert np.abs(apply(two_blocks, x) - apply(one_block, x)).min() > 1e-5


@pytest.mark.parametrize("num_blocks", [1, 4])
def test_inverse_sqrt_divides_the_branch_by_the_root_of_the_number_of_blocks(x64, num_blocks):
    def last_branch(residual_scaling):
        mlp = build(depth=2 * num_blocks, block_size=2, residual_scaling=residual_scaling)
        # With scale and offset zero, swish(0) = 0: every branch but the last is silent.
        silent = jnp.arange(num_blocks)[:, None, None] < num_blocks - 1
        norm = jax.tree.map(lambda p: jnp.where(silent, 0.0, p), mlp.blocks.norm)
        mlp = eqx.tree_at(lambda m: m.blocks.norm, mlp, norm)
        return mlp.trunk(x) - mlp.input_layer(x)

    x = inputs(6, 5)
    np.testing.assert_allclose(
        last_branch("inverse_sqrt"), last_branch("none") / np.sqrt(num_blocks), rtol=1e-9, atol=1e-12
    )


def test_branches_are_scaled_by_themselves_from_depth_128():
    def factor(depth, **options):
        return shapes(depth=depth, **options).branch_factor

    assert [factor(depth) for depth in (4, 64, 124, 128, 1024)] == [1.0, 1.0, 1.0, 32**-0.5, 256**-0.5]
    assert [factor(1024, residual_scaling="none"), factor(8, residual_scaling="inverse_sqrt")] == [1.0, 2**-0.5]
    assert factor(1024, residual=False) == 1.0
    assert factor(4, scaled_for_depth=1024) == 256**-0.5, "a network that grows has the factor of its last depth"
    assert factor(4, scaled_for_depth=64) == 1.0


def test_the_branch_factor_can_be_that_of_another_depth(x64):
    x, options = inputs(6, 5), {"block_size": 2, "residual_scaling": "inverse_sqrt"}
    shallow = build(depth=4, scaled_for_depth=32, **options)
    assert shallow.architecture.branch_factor(shallow.num_blocks) == 0.25
    assert np.abs(apply(shallow, x) - apply(build(depth=4, **options), x)).min() > 1e-5
    same = build(depth=4, scaled_for_depth=4, **options)
    np.testing.assert_array_equal(apply(same, x), apply(build(depth=4, **options), x))


def test_depth_zero_is_the_input_layer_and_the_head(x64):
    mlp = build(depth=0)
    x = inputs(6, 5)
    assert mlp.blocks is None
    assert mlp.depth == mlp.num_blocks == 0
    np.testing.assert_allclose(mlp(x), mlp.head(mlp.input_layer(x)), rtol=1e-12)


@pytest.mark.parametrize(("depth", "block_size", "num_blocks"), [(0, 4, 0), (8, 4, 2), (8, 2, 4), (3, 1, 3)])
def test_depth_counts_the_layers_inside_blocks(depth, block_size, num_blocks):
    mlp = shapes(depth=depth, block_size=block_size)
    assert (mlp.depth, mlp.num_blocks) == (depth, num_blocks)


@pytest.mark.parametrize(("normalization", "per_unit"), [("layer", 3), ("rms", 2), ("none", 1)])
@pytest.mark.parametrize(("depth", "width"), [(0, 8), (8, 8), (8, 16), (16, 8)])
def test_depth_and_width_set_the_number_of_parameters(depth, width, normalization, per_unit):
    mlp = shapes(depth=depth, width=width, normalization=normalization)
    hidden = 5 * width + per_unit * width + depth * (width * width + per_unit * width)
    assert size(mlp) == hidden + width * 3 + 3


def test_every_layer_starts_uniform_within_one_over_root_fan_in_with_zero_bias():
    mlp = ResidualMLP(16, 48, depth=8, width=64, key=jax.random.key(0))
    for layer, fan_in in ((mlp.input_layer.dense, 16), (mlp.blocks.dense, 64), (mlp.head, 64)):
        weight = np.asarray(layer.weight)
        assert 0.98 * fan_in**-0.5 < np.abs(weight).max() <= fan_in**-0.5
        assert weight.var() == pytest.approx(1.0 / (3.0 * fan_in), rel=0.06)
        assert not np.any(layer.bias)
    layers = np.asarray(mlp.blocks.dense.weight).reshape(8, -1)
    assert np.abs(np.corrcoef(layers) - np.eye(8)).max() < 0.1, "layers share their draws"


# ---- Rematerialisation -------------------------------------------------------------------------------------------


def loss(mlp, x):
    return jnp.sum(jnp.square(apply(mlp, x)))


def saved_activations(mlp, x):
    """Count what the backward pass keeps of a batch: all residuals with an axis as long as the batch."""
    pullback = jax.eval_shape(lambda m: jax.vjp(lambda m: loss(m, x), m)[1], mlp)
    return sum(leaf.size for leaf in jax.tree.leaves(pullback) if len(x) in leaf.shape)


@functools.cache
def without_remat():
    mlp, x = build(depth=10, block_size=2, remat="none"), inputs(37, 5)
    return apply(mlp, x), jax.jit(jax.grad(loss))(mlp, x), saved_activations(mlp, x)


# Five blocks: 2 and 3 do not divide them, and 8 is more than there are.
@pytest.mark.parametrize("remat", ["layer", "block", "2", "3", "8"])
def test_remat_changes_memory_but_neither_output_nor_gradient(remat):
    mlp, x = build(depth=10, block_size=2, remat=remat), inputs(37, 5)
    output, gradient, saved = without_remat()
    np.testing.assert_allclose(apply(mlp, x), output, rtol=1e-5, atol=1e-5)
    leaves = map(jax.tree.leaves, (jax.jit(jax.grad(loss))(mlp, x), gradient))
    for ours, expected in zip(*leaves, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert 0 < saved_activations(mlp, x) < 0.5 * saved


@pytest.mark.parametrize(("remat", "kept"), [("layer", 12), ("block", 4), ("1", 4), ("2", 2), ("4", 1)])
def test_four_more_blocks_keep_the_inputs_that_the_policy_names(remat, kept):
    x = inputs(37, 5)
    shallow, deep = (shapes(depth=depth, block_size=2, remat=remat) for depth in (8, 16))
    assert saved_activations(deep, x) - saved_activations(shallow, x) == kept * 37 * 8


def test_a_larger_group_than_memory_needs_is_not_taken():
    block = ResidualArchitecture().block_numbers(256)
    assert block == BlockNumbers(parameters=4 * 256 * 259, stream=256, products=4 * 256)

    def choose(memory, **sizes):
        return choose_remat(block, batch_size=512, memory=memory, **sizes)

    gib = 2**30
    parameters = 48 * 1024 * 256 * 259
    assert [choose(4 * gib, num_blocks=n) for n in (1, 16)] == ["layer", "layer"]
    assert choose(None, num_blocks=256) == "layer"
    array = 4 * 4 * 512 * 256
    needed = {"layer": 256 * 5, "block": 256 + 5, "2": 128 + 10, "4": 64 + 20}
    for name, arrays in needed.items():
        assert choose(5 * (parameters + arrays * array), num_blocks=256) == name
        assert choose(5 * (parameters + arrays * array) - 5, num_blocks=256) != name
    assert choose(gib // 1024, num_blocks=256) == "8", "the least there is, where nothing fits"


def test_memory_is_what_the_host_or_its_container_has():
    memory = device_memory()
    assert memory is not None
    assert 2**28 < memory <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_auto_is_resolved_for_the_sizes_at_hand(monkeypatch):
    monkeypatch.setattr("kilolayer.nn.stack.device_memory", lambda: 5 * (48 * 64 * 16 * 19 + 320_000))
    sizes = {"batch_size": 64, "depth": 64, "width": 16}
    assert ResidualArchitecture().resolve(**sizes).remat == "2"
    assert ResidualArchitecture().resolve(**sizes | {"batch_size": 2}).remat == "layer"
    assert ResidualArchitecture().resolve(**sizes | {"batch_size": 2}, copies=8).remat != "layer"
    fixed = ResidualArchitecture(remat="none", chain="plain", kernels="xla")
    assert fixed.resolve(**sizes) == fixed


# ---- Precision and unrolling -----------------------------------------------------------------------------------


def products(precision):
    """Return, of the matrix products forwards and backwards, the types of both sides and the precision asked for."""
    mlp, x = build(depth=2, block_size=1, precision=precision, remat="none"), inputs(6, 5)
    text = jax.jit(jax.grad(loss)).lower(mlp, x).as_text()
    return [line for line in text.splitlines() if "dot_general" in line]


def test_float32_asks_for_all_digits_and_tf32_leaves_it_to_the_device():
    exact, usual = products("float32"), products("tf32")
    assert len(exact) == len(usual) >= 8
    assert all("HIGHEST" in line for line in exact)
    assert not any("HIGHEST" in line or "bf16" in line for line in usual)


def test_bfloat16_multiplies_bfloat16_and_sums_float32_both_ways():
    lines = products("bfloat16")
    assert len(lines) >= 8
    for line in lines:
        signature = line.split(" : ")[-1]
        assert signature.count("xbf16>") == 2, line
        assert signature.endswith("xf32>"), line


def test_bfloat16_is_near_float32_and_not_it():
    x = inputs(64, 5)
    full, half = (build(depth=4, precision=precision) for precision in ("float32", "bfloat16"))
    gradients = [jax.grad(loss)(mlp, x).blocks.dense.weight for mlp in (full, half)]
    for exact, rounded in ((full(x), half(x)), gradients):
        error = np.linalg.norm(exact - rounded) / np.linalg.norm(exact)
        assert 1e-4 < error < 0.05


@pytest.mark.parametrize("unroll", [2, 3])
def test_unrolling_changes_the_program_and_not_the_function(x64, unroll):
    mlp, unrolled = (build(depth=10, block_size=2, remat="none", unroll=turns) for turns in (1, unroll))
    x = inputs(6, 5)
    np.testing.assert_allclose(apply(unrolled, x), apply(mlp, x), rtol=1e-12)
    plain, longer = (apply.lower(each, x).compile().as_text().count(" dot(") for each in (mlp, unrolled))
    assert longer > plain


# ---- One compiled block ------------------------------------------------------------------------------------


def count_equations(value):
    """Count the equations of a jaxpr and of all jaxprs within it."""
    if isinstance(value, (list, tuple)):
        return sum(map(count_equations, value))
    value = getattr(value, "jaxpr", value)
    if not hasattr(value, "eqns"):
        return 0
    return sum(1 + count_equations(list(equation.params.values())) for equation in value.eqns)


@pytest.mark.parametrize("remat", ["none", "layer", "block", "2"])
def test_program_does_not_grow_with_depth(remat):
    def equations(depth):
        mlp = shapes(depth=depth, remat=remat)
        return count_equations(jax.make_jaxpr(jax.value_and_grad(loss))(mlp, inputs(2, 5)))

    assert equations(8) > equations(0) > 20
    assert equations(8) == equations(64)


def test_one_scan_walks_all_blocks():
    jaxpr = jax.make_jaxpr(lambda mlp, x: mlp(x))(shapes(depth=64), inputs(2, 5))
    scans = [equation for equation in jaxpr.eqns if equation.primitive.name == "scan"]
    assert [scan.params["length"] for scan in scans] == [16]


# ---- A plain building block --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 1, 3)])
def test_leading_axes_are_free(x64, shape):
    mlp = build()
    x = inputs(*shape, 5)
    y = apply(mlp, x)
    assert y.shape == (*shape, 3)
    rows = [apply(mlp, row) for row in x.reshape(-1, 5)]
    np.testing.assert_allclose(y.reshape(-1, 3), np.stack(rows), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("remat", ["none", "layer", "3"])
def test_jit_and_vmap_change_nothing(x64, remat):
    mlp = build(depth=10, block_size=2, remat=remat)
    x = inputs(4, 5)
    plain = mlp(x)
    np.testing.assert_allclose(apply(mlp, x), plain, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(jax.jit(jax.vmap(mlp))(x), plain, rtol=1e-10, atol=1e-12)


def test_an_ensemble_is_a_vmap_over_stacked_parameters(x64):
    x = inputs(4, 5)
    first = build(depth=4)
    second = jax.tree.map(lambda p: -p, first)
    ensemble = jax.tree.map(lambda *p: jnp.stack(p), first, second)
    outputs = jax.jit(jax.vmap(lambda mlp: mlp(x)))(ensemble)
    np.testing.assert_allclose(outputs, [apply(first, x), apply(second, x)], rtol=1e-10, atol=1e-12)


def test_gradient_reaches_every_parameter_and_agrees_with_finite_differences(x64):
    mlp, x = build(depth=4, block_size=2), inputs(6, 5)
    gradient = jax.jit(jax.grad(loss))(mlp, x)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient))
    direction = jax.tree.map(lambda p: inputs(*p.shape, seed=2), mlp)
    slope = sum(map(np.vdot, jax.tree.leaves(gradient), jax.tree.leaves(direction)))
    ahead, behind = (jax.tree.map(lambda p, d, h=h: p + h * d, mlp, direction) for h in (1e-6, -1e-6))
    assert float(loss(ahead, x) - loss(behind, x)) / 2e-6 == pytest.approx(slope, rel=1e-6)


# ---- Refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 6}, "depth=6 is not a multiple of block_size=4; try 4 or 8"),
        ({"depth": 9, "block_size": 5}, "depth=9 is not a multiple of block_size=5; try 5 or 10"),
        ({"depth": -4}, "depth=-4 must be 0 or a multiple"),
        ({"width": 0}, "width=0 must be at least 1"),
        ({"in_size": 0}, "in_size=0 must be at least 1"),
        ({"out_size": -1}, "out_size=-1 must be at least 1"),
        ({"block_size": 0}, "block_size=0 must be at least 1"),
        ({"residual_scaling": "inverse_sqrt", "residual": False}, "residual_scaling needs residual=True"),
        ({"residual_scaling": "sqrt"}, "residual_scaling='sqrt' is unknown"),
        ({"activation": "tanh"}, "activation='tanh' is unknown"),
        ({"normalization": "batch"}, "normalization='batch' is unknown"),
        ({"remat": "0"}, "remat='0' is unknown"),
        ({"remat": "-2"}, "remat='-2' is unknown"),
        ({"remat": "1.5"}, "remat='1.5' is unknown"),
        ({"remat": "layers"}, "remat='layers' is unknown"),
        ({"unroll": 0}, "unroll=0 must be at least 1"),
        ({"precision": "float16"}, "precision='float16' is unknown; choose one of float32, tf32, bfloat16"),
        (
            {"scaled_for_depth": 8, "residual_scaling": "none"},
            "scaled_for_depth=8 needs residual_scaling=inverse_sqrt or auto",
        ),
        ({"scaled_for_depth": 0, "residual_scaling": "inverse_sqrt"}, "scaled_for_depth=0 must be at least 4"),
        ({"scaled_for_depth": 6, "residual_scaling": "inverse_sqrt"}, "depth=6 is not a multiple of block_size=4"),
        ({"remat": ""}, "remat='' is unknown"),
    ],
)
def test_impossible_settings_are_refused_by_name(no_type_checks, options, message):
    with pytest.raises(ConfigurationError) as error:
        shapes(**options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(depth=st.integers(-5, 200), block_size=st.integers(1, 9))
def test_a_depth_is_accepted_if_and_only_if_blocks_fill_it(depth, block_size):
    architecture = ResidualArchitecture(block_size=block_size)
    if depth >= 0 and depth % block_size == 0:
        assert architecture.num_blocks(depth) * block_size == depth
    else:
        with pytest.raises(ConfigurationError, match=f"depth={depth} "):
            architecture.num_blocks(depth)


def test_networks_on_several_devices_do_without_the_fused_kernels():
    assert ResidualArchitecture().spread() == ResidualArchitecture(kernels="xla")
    with pytest.raises(ConfigurationError, match="kernels='fused' walks the rows of one device"):
        ResidualArchitecture(kernels="fused").spread()
