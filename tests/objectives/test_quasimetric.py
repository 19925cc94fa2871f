"""The axioms of a quasimetric, and the lengths that intervals cover."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kilolayer.errors import ConfigurationError
from kilolayer.objectives import check_components, interval_quasimetric

SIZE, COMPONENT = 8, 4

# Multiples of a quarter: many ties between ends, and sums and differences of them are exact in float32.
embeddings = arrays(np.float32, SIZE, elements=st.integers(-12, 12).map(lambda quarters: quarters / 4))
properties = settings(max_examples=200, deadline=None)

distance_of = jax.jit(interval_quasimetric, static_argnums=2)


def d(start, end, component_size=COMPONENT):
    return float(distance_of(jnp.asarray(start), jnp.asarray(end), component_size))


def written_out(start, end, component_size=COMPONENT):
    """Count the quarters that each component's intervals cover."""
    lengths = []
    for lefts, rights in zip(start.reshape(-1, component_size), end.reshape(-1, component_size), strict=True):
        covered = set()
        for left, right in zip(lefts, rights, strict=True):
            covered |= set(range(round(4 * left), round(4 * right)))
        lengths.append(len(covered) / 4)
    return 0.5 * (np.mean(lengths) + max(lengths))


@given(embeddings)
@properties
def test_nothing_is_away_from_itself(x):
    assert d(x, x) == 0.0


@given(embeddings, embeddings)
@properties
def test_it_is_the_length_that_intervals_cover_together(x, y):
    assert d(x, y) == pytest.approx(written_out(x, y), abs=1e-6)


@given(embeddings, embeddings)
@properties
def test_it_is_zero_exactly_where_no_number_rises(x, y):
    assert d(x, y) >= 0.0
    assert (d(x, y) == 0.0) == bool(np.all(y <= x))


@given(embeddings, embeddings, embeddings)
@properties
def test_no_detour_is_shorter(x, y, z):
    assert d(x, z) <= d(x, y) + d(y, z) + 1e-6


@given(embeddings, embeddings, st.integers(-8, 8))
@properties
def test_only_differences_count_and_distances_scale(x, y, shift):
    assert d(x + shift, y + shift) == pytest.approx(d(x, y), abs=1e-5)
    assert d(4.0 * x, 4.0 * y) == pytest.approx(4.0 * d(x, y), abs=1e-5)


def test_there_and_back_differ():
    there, back = jnp.zeros(SIZE), jnp.arange(SIZE) / 4.0
    assert d(there, back) == pytest.approx(0.5 * ((0.75 + 1.75) / 2 + 1.75))
    assert d(back, there) == 0.0


def test_components_of_one_number_cover_each_rise_alone():
    start, end = jnp.array([0.0, 1.0, 2.0]), jnp.array([3.0, 0.0, 3.0])
    assert d(start, end, 1) == pytest.approx(0.5 * (4.0 / 3.0 + 3.0))


@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_leading_axes_are_free(shape):
    rng = np.random.default_rng(0)
    start, end = (jnp.asarray(rng.standard_normal((*shape, SIZE)), jnp.float32) for _ in range(2))
    together = distance_of(start, end, COMPONENT)
    assert together.shape == shape
    for index in np.ndindex(*shape):
        assert float(together[index]) == pytest.approx(d(start[index], end[index]), rel=1e-6)


def gradients_of(start, end):
    return jax.jit(jax.grad(lambda x, y: jnp.sum(interval_quasimetric(x, y, COMPONENT)), argnums=(0, 1)))(start, end)


def test_gradients_are_those_of_finite_differences(x64):
    rng = np.random.default_rng(1)
    start, end = rng.standard_normal((2, SIZE))
    nudges = 1e-6 * np.eye(2 * SIZE)
    nudges = np.concatenate([nudges, -nudges])
    up, down = jnp.split(distance_of(start + nudges[:, :SIZE], end + nudges[:, SIZE:], COMPONENT), 2)
    gradient = np.concatenate(gradients_of(start, end))
    assert np.any(gradient[:SIZE])
    assert np.any(gradient[SIZE:])
    np.testing.assert_allclose(gradient, (up - down) / 2e-6, atol=1e-6)


def test_gradients_stay_finite_where_all_numbers_are_alike():
    same = jnp.ones((3, SIZE))
    assert np.all(np.isfinite(gradients_of(same, same)))


@pytest.mark.parametrize(
    ("size", "component_size", "message"),
    [
        (8, 0, "component_size=0 must be at least 1"),
        (8, 3, "representation_size=8 must be a positive multiple of component_size=3"),
        (0, 4, "representation_size=0 must be a positive multiple of component_size=4"),
    ],
)
def test_embeddings_that_do_not_divide_are_refused(size, component_size, message):
    with pytest.raises(ConfigurationError) as error:
        check_components(size, component_size)
    assert str(error.value) == message
    with pytest.raises(ConfigurationError):
        interval_quasimetric(jnp.zeros(size), jnp.zeros(size), component_size)
