"""The fused kernels, run by Triton's interpreter, against plain networks in float64; and when they are taken."""

import importlib.util
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs triton, which is made for Linux", allow_module_level=True)

from kernel_cases import FORMS, TOLERANCE, assert_close, exact, in_float64, inputs, network, value_and_gradients

import kilolayer as kl
from kilolayer.bench.flops import gradient_step_flops
from kilolayer.errors import ConfigurationError
from kilolayer.nn import ResidualArchitecture, residual_mlp
from kilolayer.nn.kernel_check import kernels_agree
from kilolayer.nn.kernels import WIDTHS, walk
from kilolayer.training import Setup
from small_runs import small_config


@pytest.fixture(autouse=True)
def interpreter(monkeypatch):
    """Run kernels by the interpreter. It is not loaded before a test needs it: it is for good in a process."""
    import triton_interpreter

    monkeypatch.setattr(walk, "_launch", triton_interpreter.launch)
    monkeypatch.setattr(residual_mlp, "run_here", lambda: True)
    return triton_interpreter


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_values_and_gradients_are_those_of_float64(form):
    x = inputs(37, 5)  # no multiple of a tile
    found = jax.jit(value_and_gradients)(network(form, "fused"), x)
    expected = in_float64(value_and_gradients, network(exact(form), "xla"), x)
    assert_close(found, expected, TOLERANCE[form.get("precision", "tf32")])


@pytest.mark.parametrize(
    "width", [pytest.param(width, marks=[pytest.mark.slow] * (width < max(WIDTHS))) for width in WIDTHS if width > 64]
)
def test_wider_networks(width):
    x = inputs(17, 5)
    found = jax.jit(value_and_gradients)(network({"block_size": 2}, "fused", depth=2, width=width), x)
    expected = in_float64(value_and_gradients, network(exact({"block_size": 2}), "xla", depth=2, width=width), x)
    assert_close(found, expected, TOLERANCE["tf32"])


@pytest.mark.parametrize("rows", [1, 16, 200])
def test_any_number_of_rows_and_axes(rows):
    x = inputs(2, rows, 5)
    found = jax.jit(value_and_gradients)(network({}, "fused", depth=4), x)
    expected = in_float64(value_and_gradients, network(exact({}), "xla", depth=4), x)
    assert_close(found, expected, TOLERANCE["tf32"])


@pytest.mark.parametrize(
    "axes", [(0, 0), (0, None), (None, 0)], ids=["both differ", "the same input", "the same network"]
)
def test_seeds_by_vmap_in_a_loop_of_steps(axes):
    """Nested once more, as networks that walk together inside a seed are."""

    def trained(network, x):
        def step(network, x):
            gradient = jax.grad(lambda network: jnp.sum(jnp.sin(jax.vmap(network)(x))))(network)
            return jax.tree.map(lambda p, g: p - 0.01 * g, network, gradient), None

        return jax.lax.scan(step, network, x)[0]

    def of(kernels, form):
        networks = [network(form, kernels, depth=4, seed=seed) for seed in range(3)]
        networks = jax.tree.map(lambda *each: jnp.stack(each), *networks) if axes[0] == 0 else networks[0]
        return jax.vmap(trained, in_axes=axes), networks

    x = inputs(3, 2, 3, 7, 5) if axes[1] == 0 else inputs(2, 3, 7, 5)
    function, networks = of("fused", {})
    found = jax.jit(function)(networks, x)
    function, networks = of("xla", exact({}))
    assert_close(found, in_float64(function, networks, x), TOLERANCE["tf32"])


def test_under_rematerialisation():
    torso, x = network({"remat": "layer"}, "fused", depth=4), inputs(7, 5)

    def again(torso, x):
        return jax.checkpoint(lambda torso, x: torso(x))(torso, x)

    found = jax.jit(lambda torso, x: jax.grad(lambda torso: jnp.sum(jnp.sin(again(torso, x))))(torso))(torso, x)
    assert_close(found, value_and_gradients(torso, x)[1][0], 1e-5)


def test_without_a_gradient_nothing_is_kept():
    torso, x = network({}, "fused"), inputs(37, 5)
    found, expected = jax.jit(lambda x: torso(x))(x), value_and_gradients(torso, x)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert "37,64" in str(jax.make_jaxpr(torso)(x))
    assert "8,37,64" not in str(jax.make_jaxpr(torso)(x))  # of eight layers


def test_a_network_that_grew_walks_by_the_kernels():
    shallow, x = network({}, "fused", depth=4), inputs(7, 5)
    deep = network({}, "fused", depth=8, seed=3).graft(shallow)
    np.testing.assert_allclose(deep(x), shallow(x), rtol=1e-6, atol=1e-6)
    _, (gradients, _) = value_and_gradients(deep, x)
    of_scale = gradients.blocks.norm.scale
    assert jnp.all(jnp.abs(of_scale[0]).max(axis=-1) > 0)
    assert jnp.abs(of_scale[1, -1]).max() > 0  # the layer that starts at zero learns first


def test_what_it_computes_is_counted():
    def counted(kernels):
        setup = Setup.build(small_config(depth=8, width=64, architecture={"chain": "short", "kernels": kernels}))
        return gradient_step_flops(setup)

    assert counted("fused") == counted("xla")


# The compiler


@pytest.fixture
def launches(monkeypatch, interpreter):
    """Return what is launched for a gradient of a network, as `compile_kernels` reads it."""
    found = []

    def record(kernel, arrays, outputs, *, grid, warps, constants):
        types = ["*" + interpreter.NAMES[each.dtype.name] for each in (*arrays, *outputs)]
        found.append({"kernel": kernel, "types": types, "constants": constants, "warps": warps})
        return [jnp.zeros(each.shape, each.dtype) for each in outputs]

    monkeypatch.setattr(walk, "_launch", record)

    def of(form, *, width, rows):
        before = len(found)
        # A function of its own, so that JAX traces it anew.
        jax.eval_shape(lambda *own: value_and_gradients(*own), network(form, "fused", width=width), inputs(rows, 5))
        return found[before:]

    return of


SMALLEST = 99 * 1024
"""Bytes of memory on the chip that a program can have on every card from Ampere on."""


COMPILE = Path(__file__).parents[1] / "compile_kernels.py"


def compiled(architecture, launches, tmp_path):
    file = tmp_path / "launches.json"
    file.write_text(json.dumps(launches))
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(COMPILE), str(architecture), str(file)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_the_kernels_compile_to_machine_code_of_a_card(launches, tmp_path):
    own = launches({}, width=256, rows=512)
    assert [each["kernel"] for each in own] == ["forward", "backward"]
    assert max(compiled(90, own, tmp_path)) <= SMALLEST


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [80, 90, 100], ids=["Ampere", "Hopper", "Blackwell"])
def test_every_form_and_width_compiles_for_every_card(launches, tmp_path, architecture):
    wide = [each for width in WIDTHS for rows in (16, 4096) for each in launches({}, width=width, rows=rows)]
    rounded = [each for width in WIDTHS for each in launches({"precision": "bfloat16"}, width=width, rows=512)]
    forms = [each for form in FORMS.values() for each in launches(form, width=64, rows=64)]
    assert max(compiled(architecture, wide + rounded + forms, tmp_path)) <= SMALLEST


# The settings


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr("kilolayer.nn.stack.device_memory", lambda: 80 * 2**30)
    kernels_agree.cache_clear()
    yield
    kernels_agree.cache_clear()


SIZES = {"batch_size": 64, "depth": 8, "width": 64}


def test_auto_is_fused_on_a_gpu_where_it_agrees(gpu):
    found = ResidualArchitecture(normalization="rms").resolve(**SIZES)
    assert (found.kernels, found.chain, found.remat) == ("fused", "short", "layer")
    assert ResidualArchitecture(precision="float32").resolve(**SIZES).kernels == "xla"
    assert ResidualArchitecture(chain="plain").resolve(**SIZES).kernels == "xla"
    assert ResidualArchitecture(remat="block").resolve(**SIZES).kernels == "xla"
    assert ResidualArchitecture().resolve(**{**SIZES, "width": 100}).kernels == "xla"


def test_the_choice_may_fall_inside_a_program(gpu):
    taken = []

    @jax.jit
    def program(x):
        taken.append(ResidualArchitecture().resolve(**SIZES).kernels)
        return x

    program(1.0)
    assert taken == ["fused"]


@pytest.mark.parametrize("fault", ["wrong", "not a number", "fails"])
def test_kernels_that_are_wrong_or_do_not_run_leave_the_walk_to_xla(gpu, monkeypatch, caplog, fault, interpreter):
    def launch(*args, **kwargs):
        if fault == "fails":
            raise RuntimeError("out of resources:\n shared memory")
        results = interpreter.launch(*args, **kwargs)
        return [x * (1.05 if fault == "wrong" else jnp.nan) for x in results]

    monkeypatch.setattr(walk, "_launch", launch)
    with caplog.at_level(logging.WARNING):
        assert ResidualArchitecture().resolve(**SIZES).kernels == "xla"
        assert ResidualArchitecture().resolve(**SIZES).kernels == "xla"
    (record,) = caplog.records
    said = {"wrong": "away from what XLA gives", "not a number": "inf away", "fails": "out of resources: shared memory"}
    assert said[fault] in record.getMessage()
    assert "\n" not in record.getMessage()


def test_what_acts_on_the_processor_beside_a_gpu_is_walked_by_xla(monkeypatch):
    monkeypatch.setattr(residual_mlp, "run_here", walk.run_here)
    torso, x = network({}, "fused"), inputs(7, 5)
    expected = network(exact({}), "xla")(x)
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        assert walk.run_here() == (backend == "gpu")
        with jax.default_device(jax.devices("cpu")[0]):
            assert not walk.run_here()
            np.testing.assert_allclose(jax.jit(lambda x: torso(x))(x), expected, rtol=1e-4, atol=1e-4)


def test_on_a_cpu_xla_walks():
    assert ResidualArchitecture().resolve(**SIZES).kernels == "xla"


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"kernels": "fast"}, "kernels='fast' is unknown; choose one of auto, fused, xla"),
        ({"kernels": "fused", "chain": "plain"}, "kernels='fused' walks a short chain, so chain='plain' must be auto"),
        ({"kernels": "fused", "remat": "block"}, "kernels='fused' keeps every product, so remat='block' must be auto"),
        ({"kernels": "fused", "precision": "float32"}, "kernels='fused' needs precision=tf32 or bfloat16"),
    ],
)
def test_what_does_not_go_together_is_one_line(settings, line, no_type_checks):
    with pytest.raises(ConfigurationError, match=line):
        ResidualArchitecture(**settings)


def test_widths_and_devices_that_have_no_kernels_are_one_line(tmp_path, gpu, monkeypatch):
    fused = {"architecture": {"kernels": "fused"}, "total_env_steps": 100_000}
    with pytest.raises(ConfigurationError, match="actor_width: kernels='fused' walks networks of width 64, 128, 256"):
        kl.train("reacher", run_dir=tmp_path / "a", width=64, crl={"actor_width": 48}, **fused)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="kernels='fused' needs the package jax-triton"):
        kl.train("reacher", run_dir=tmp_path / "a", width=64, **fused)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    with pytest.raises(ConfigurationError, match="kernels='fused' needs a GPU, and JAX runs on a cpu here"):
        kl.train("reacher", run_dir=tmp_path / "a", width=64, **fused)
    assert not (tmp_path / "a").exists()
