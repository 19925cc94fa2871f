"""The fused kernels on a GPU. The interpreter of Triton is not loaded here: it is for good in a process."""

import jax
import numpy as np
import pytest
from kernel_cases import FORMS, TOLERANCE, assert_close, exact, in_float64, inputs, network, value_and_gradients

from kilolayer.nn import ResidualArchitecture
from kilolayer.nn.kernels import WIDTHS

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_values_and_gradients_are_those_of_float64(form):
    x = inputs(37, 5)
    found = jax.jit(value_and_gradients)(network(form, "fused"), x)
    expected = in_float64(value_and_gradients, network(exact(form), "xla"), x)
    assert_close(found, expected, TOLERANCE[form.get("precision", "tf32")])


@pytest.mark.parametrize("rows", [16, 512, 4000])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_and_size_of_batch(width, rows):
    x = inputs(rows, 5)
    found = jax.jit(value_and_gradients)(network({}, "fused", width=width), x)
    expected = in_float64(value_and_gradients, network(exact({}), "xla", width=width), x)
    assert_close(found, expected, TOLERANCE["tf32"])


def test_the_same_bits_each_time():
    torso, x = network({}, "fused", width=256, depth=64), inputs(512, 5)
    step = jax.jit(value_and_gradients)
    first = jax.tree.map(np.asarray, step(torso, x))
    for _ in range(5):
        jax.tree.map(np.testing.assert_array_equal, first, jax.tree.map(np.asarray, step(torso, x)))


def test_auto_takes_them():
    found = ResidualArchitecture().resolve(batch_size=512, depth=64, width=256)
    assert (found.kernels, found.chain) == ("fused", "short")
