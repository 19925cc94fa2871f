import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilolayer.errors import ConfigurationError
from kilolayer.objectives import Energy

NAMES = ["l2", "squared_l2", "dot", "cosine"]
TEMPERATURES = {"l2": 1.0, "squared_l2": 1.0, "dot": 1.0, "cosine": 0.1}


logits_of = jax.jit(Energy.logits, static_argnums=0)
pairs_of = jax.jit(Energy.pairs, static_argnums=0)
METHODS = [logits_of, pairs_of]


def embeddings(rows=6, size=4, seed=0, offset=0.0, dtype=None):
    return jnp.asarray(offset + np.random.default_rng(seed).standard_normal((rows, size)), dtype)


def direct(name, a, b):
    """Compute every energy of a row of `a` with a row of `b` from the definition."""
    a, b = a[:, None, :], b[None, :, :]
    match name:
        case "l2":
            return -np.sqrt(np.sum((a - b) ** 2, axis=-1))
        case "squared_l2":
            return -np.sum((a - b) ** 2, axis=-1)
        case "dot":
            return np.sum(a * b, axis=-1)
        case "cosine":
            lengths = np.sqrt(np.sum(a**2, axis=-1) * np.sum(b**2, axis=-1))
            return np.sum(a * b, axis=-1) / lengths / 0.1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("rows", "columns"), [(6, 6), (3, 7), (1, 2)])
def test_logits_hold_the_energy_of_every_pair(x64, name, rows, columns):
    a, b = embeddings(rows), embeddings(columns, seed=1)
    logits = logits_of(Energy(name), a, b)
    np.testing.assert_allclose(logits, direct(name, np.asarray(a), np.asarray(b)), rtol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_the_diagonal_of_the_logits(x64, name):
    a, b = embeddings(), embeddings(seed=1)
    pairs = pairs_of(Energy(name), a, b)
    np.testing.assert_allclose(pairs, np.diagonal(logits_of(Energy(name), a, b)), rtol=1e-10)
    np.testing.assert_allclose(
        pairs_of(Energy(name), a.reshape(2, 3, 4), b.reshape(2, 3, 4)), pairs.reshape(2, 3), rtol=1e-12
    )
    np.testing.assert_allclose(pairs_of(Energy(name), a[0], b[0]), pairs[0], rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_temperature_divides_the_energy(name):
    a, b = embeddings(), embeddings(seed=1)
    assert Energy(name).divisor == TEMPERATURES[name]
    for method in METHODS:
        plain = method(Energy(name), a, b)
        cooled = method(Energy(name, temperature=0.25), a, b)
        np.testing.assert_allclose(cooled, plain * TEMPERATURES[name] / 0.25, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS, ids=["logits", "pairs"])
def test_l2_gradient_at_distance_zero_is_finite_and_that_of_the_other_rows_is_untouched(x64, method):
    a, b = embeddings(), embeddings(seed=1).at[2].set(embeddings()[2])
    assert pairs_of(Energy("l2"), a[2], b[2]) == 0.0

    def total(a):
        return jnp.sum(method(Energy("l2"), a, b))

    gradient = np.asarray(jax.jit(jax.grad(total))(a))
    a, b = np.asarray(a), np.asarray(b)
    difference = a[:, None] - b[None] if method is logits_of else (a - b)[:, None]
    length = np.linalg.norm(difference, axis=-1, keepdims=True)
    expected = -np.divide(difference, length, out=np.zeros_like(difference), where=length > 0).sum(axis=1)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", METHODS, ids=["logits", "pairs"])
@pytest.mark.parametrize("offset", [0.0, 1.0, 100.0])
def test_values_and_gradients_stay_finite_where_all_rows_are_alike(name, method, offset):
    a = jnp.full((5, 4), offset)

    def total(a, b):
        return jnp.sum(method(Energy(name), a, b))

    value, gradients = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))(a, a)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


def test_cosine_divides_each_row_by_its_own_length():
    a, b = embeddings(), embeddings(seed=1)
    lengths = jnp.array([1.0, 7.0, 0.01, 1.0, 300.0, 2.0])[:, None]
    expected = logits_of(Energy("cosine"), a, b)
    np.testing.assert_allclose(logits_of(Energy("cosine"), a * lengths, b), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits_of(Energy("cosine"), a, b * lengths), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pairs_of(Energy("cosine"), a, a * lengths), 10.0 * np.ones(6), rtol=1e-5)


@pytest.mark.parametrize("method", METHODS, ids=["logits", "pairs"])
def test_cosine_of_a_zero_row_is_zero_with_finite_gradients(method):
    a, b = embeddings().at[2].set(0.0), embeddings(seed=1)

    def values(a):
        return method(Energy("cosine"), a, b)

    np.testing.assert_array_equal(values(a)[2], jnp.zeros_like(values(a)[2]))
    assert np.all(np.isfinite(jax.jit(jax.jacobian(values))(a)))
    assert np.all(np.isfinite(values(a)))


# The positives of a trained critic are near, its negatives far; both must be right.
@pytest.mark.parametrize("name", ["l2", "squared_l2"])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_float32_distances_are_accurate_far_from_the_origin(name, offset):
    a = embeddings(64, 64, offset=offset, dtype=jnp.float32)
    b = a + 0.1 * embeddings(64, 64, seed=1, dtype=jnp.float32)
    expected = direct(name, np.asarray(a, np.float64), np.asarray(b, np.float64))
    logits = logits_of(Energy(name), a, b)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=2e-4)
    np.testing.assert_allclose(pairs_of(Energy(name), a, b), np.diagonal(expected), rtol=1e-5)


@pytest.mark.parametrize("name", ["l2", "squared_l2"])
def test_rounding_never_makes_a_squared_distance_negative(name):
    a = embeddings(64, 64, dtype=jnp.float32)
    assert np.max(logits_of(Energy(name), a, a)) <= 0.0


def all_equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from all_equations(inner)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backward", [False, True])
def test_every_matrix_product_has_the_highest_precision(name, backward):
    def total(a, b):
        return jnp.sum(jnp.square(Energy(name).logits(a, b)))

    program = jax.grad(total, argnums=(0, 1)) if backward else total
    jaxpr = jax.make_jaxpr(program)(embeddings(), embeddings(seed=1)).jaxpr
    products = [e.params["precision"] for e in all_equations(jaxpr) if e.primitive.name == "dot_general"]
    assert len(products) == (3 if backward else 1)
    assert all(set(precision) == {jax.lax.Precision.HIGHEST} for precision in products)


rows = st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(a=rows, b=rows, c=rows)
def test_minus_l2_is_a_metric(a, b, c):
    with jax.enable_x64(True):
        points = jnp.array([a, b, c], jnp.float64)
        distance = -np.asarray(logits_of(Energy("l2"), points, points))
        np.testing.assert_allclose(-logits_of(Energy("squared_l2"), points, points), distance**2, atol=1e-12)
    assert np.all(distance >= 0.0)
    np.testing.assert_allclose(distance, distance.T, atol=1e-6)
    np.testing.assert_allclose(np.diagonal(distance), 0.0, atol=1e-6)
    assert distance[0, 2] <= distance[0, 1] + distance[1, 2] + 1e-6


@settings(deadline=None, derandomize=True, max_examples=20)
@given(a=rows, b=rows, shift=st.floats(-100, 100, width=32))
def test_distances_do_not_see_a_common_shift(a, b, shift):
    with jax.enable_x64(True):
        a, b = jnp.array([a], jnp.float64), jnp.array([b, b[::-1]], jnp.float64)
        moved = logits_of(Energy("squared_l2"), a + shift, b + shift)
        np.testing.assert_allclose(moved, logits_of(Energy("squared_l2"), a, b), rtol=1e-9, atol=1e-9)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(a=rows, b=rows)
def test_cosine_lies_within_one_over_the_temperature(a, b):
    logits = logits_of(Energy("cosine", temperature=0.5), jnp.array([a]), jnp.array([b]))
    assert np.abs(logits).max() <= 2.0 + 1e-5


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperatures_that_are_not_positive_are_refused(temperature):
    with pytest.raises(ConfigurationError, match=f"temperature={temperature} must be above 0"):
        Energy("l2", temperature)


def test_an_unknown_energy_is_refused(no_type_checks):
    with pytest.raises(ConfigurationError, match=r"energy='l1' is unknown; choose one of l2, squared_l2, dot, cosine"):
        Energy("l1")


def test_embeddings_of_different_sizes_are_caught_by_the_type_checks():
    with pytest.raises(jaxtyping.TypeCheckError):
        pairs_of(Energy("l2"), jnp.ones((3, 4)), jnp.ones((3, 1)))
