import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from kilolayer.objectives import tanh_gaussian


@pytest.mark.parametrize("shape", [(2,), (5, 2), (3, 4, 2)])
def test_log_density_is_the_gaussians_less_the_logarithm_of_the_slope(x64, shape):
    rng = np.random.default_rng(0)
    mean, log_std = rng.normal(0.0, 0.5, shape), rng.uniform(-1.5, -0.5, shape)
    action, log_density = tanh_gaussian.sample(jnp.asarray(mean), jnp.asarray(log_std), jax.random.key(0))
    action = np.asarray(action)
    gaussian = scipy.stats.norm.logpdf(np.arctanh(action), mean, np.exp(log_std))
    expected = np.sum(gaussian - np.log(1.0 - action**2 + 1e-6), axis=-1)
    assert action.shape == shape
    np.testing.assert_allclose(log_density, expected, rtol=1e-8)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, -1.0), (0.6, -0.5), (-1.0, -2.0)])
def test_density_integrates_to_one_over_actions(x64, mean, log_std):
    draws = jnp.full((100_000, 1), mean), jnp.full((100_000, 1), log_std)
    action, log_density = jax.jit(tanh_gaussian.sample)(*draws, jax.random.key(0))
    # The draws themselves are the nodes of the quadrature.
    order = np.argsort(action[:, 0])
    total = np.trapezoid(np.exp(log_density)[order], np.asarray(action)[order, 0])
    assert total == pytest.approx(1.0, abs=1e-3)


def test_draws_have_the_mean_and_deviation_asked_for(x64):
    mean, log_std = jnp.array([0.3, -0.7]), jnp.array([-1.0, 0.2])
    draws = jnp.broadcast_to(mean, (20_000, 2)), jnp.broadcast_to(log_std, (20_000, 2))
    action, _ = tanh_gaussian.sample(*draws, jax.random.key(0))
    before_tanh = np.arctanh(np.asarray(action))
    np.testing.assert_allclose(before_tanh.mean(axis=0), mean, atol=0.04)
    np.testing.assert_allclose(before_tanh.std(axis=0), np.exp(log_std), rtol=0.03)
    assert abs(np.corrcoef(before_tanh.T)[0, 1]) < 0.03


def test_samples_follow_the_key_and_carry_gradients_to_mean_and_deviation(x64):
    mean, log_std = jnp.array([0.3, -0.7]), jnp.array([-1.0, 0.2])

    def action(mean, log_std, seed=0):
        return tanh_gaussian.sample(mean, log_std, jax.random.key(seed))[0]

    np.testing.assert_array_equal(action(mean, log_std), action(mean, log_std))
    assert np.all(action(mean, log_std) != action(mean, log_std, seed=1))
    by_mean, by_log_std = jax.jacobian(action, argnums=(0, 1))(mean, log_std)
    a = np.asarray(action(mean, log_std))
    slope = 1.0 - a**2
    np.testing.assert_allclose(by_mean, np.diag(slope), rtol=1e-9)
    np.testing.assert_allclose(by_log_std, np.diag(slope * (np.arctanh(a) - mean)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mean", [50.0, -50.0])
def test_a_saturated_action_has_the_bounded_density_of_the_correction(mean):
    mean, log_std = jnp.array([mean]), jnp.array([0.0])
    action, log_density = tanh_gaussian.sample(mean, log_std, jax.random.key(0))
    noise = np.asarray(jax.random.normal(jax.random.key(0), (1,)))
    assert abs(action[0]) == 1.0
    expected = scipy.stats.norm.logpdf(noise[0]) - np.log(1e-6)
    assert float(log_density) == pytest.approx(expected, rel=1e-5)
    gradients = jax.grad(lambda m, s: tanh_gaussian.sample(m, s, jax.random.key(0))[1], argnums=(0, 1))
    assert np.all(np.isfinite(gradients(mean, log_std)))


def test_float32_has_the_slope_to_its_own_precision_where_the_tanh_is_steep_and_where_it_is_flat():
    mean = np.linspace(-9.0, 9.0, 181, dtype=np.float32)[:, None]
    _, found = tanh_gaussian.sample(jnp.asarray(mean), jnp.full(mean.shape, -30.0), jax.random.key(0))
    noise = np.asarray(jax.random.normal(jax.random.key(0), mean.shape), np.float64)
    gaussian = scipy.stats.norm.logpdf(noise)[:, 0] + 30.0
    slope = np.cosh(mean.astype(np.float64)[:, 0]) ** -2  # by 1 - a^2 in float32 its log is off by up to 0.09
    np.testing.assert_allclose(found, gaussian - np.log(slope + 1e-6), rtol=1e-6)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(raw=st.floats(allow_nan=False, width=32))
def test_log_std_lies_between_minus_five_and_two(raw):
    log_std = float(tanh_gaussian.squash_log_std(jnp.array([raw], jnp.float32))[0])
    assert -5.0 <= log_std <= 2.0
    assert log_std == pytest.approx(-5.0 + 3.5 * (np.tanh(raw) + 1.0), abs=1e-5)


def test_log_std_reaches_both_ends_and_rises():
    log_std = np.asarray(tanh_gaussian.squash_log_std(jnp.array([-jnp.inf, -1.0, 0.0, 1.0, jnp.inf])))
    np.testing.assert_allclose(log_std[[0, 2, 4]], [-5.0, -1.5, 2.0], rtol=1e-6)
    assert np.all(np.diff(log_std) > 0.0)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(mean=st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=3))
def test_mode_is_the_tanh_of_the_mean(mean):
    np.testing.assert_allclose(tanh_gaussian.mode(jnp.array(mean)), np.tanh(mean), rtol=1e-5, atol=1e-7)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(seed=st.integers(0, 2**31 - 1), mean=st.floats(-2, 2), log_std=st.floats(-5, 0.5))
def test_log_density_of_a_draw_is_what_came_with_it(seed, mean, log_std):
    with jax.enable_x64(True):
        parameters = jnp.full((3, 2), mean), jnp.full((3, 2), log_std)
        action, expected = tanh_gaussian.sample(*parameters, jax.random.key(seed))
        np.testing.assert_allclose(tanh_gaussian.log_density(*parameters, action), expected, rtol=1e-7, atol=1e-7)


def test_log_density_of_a_draw_is_the_draws_in_float32_too():
    # Near |a| = 1 the nearest float32 tells less and less of what was before the tanh, hence the mean near 0.
    mean, log_std = jnp.full((1000, 2), 0.2), jnp.full((1000, 2), -1.0)
    action, expected = jax.jit(tanh_gaussian.sample)(mean, log_std, jax.random.key(0))
    np.testing.assert_allclose(tanh_gaussian.log_density(mean, log_std, action), expected, atol=1e-4)


@pytest.mark.parametrize("action", [-1.0, 1.0])
def test_log_density_of_an_action_at_the_end_is_finite_and_pulls_the_mean_towards_it(action):
    def density(mean, log_std):
        return tanh_gaussian.log_density(mean, log_std, jnp.array([action]))

    arguments = jnp.array([0.3]), jnp.array([-5.0])
    assert np.isfinite(density(*arguments))
    by_mean, by_log_std = jax.grad(density, argnums=(0, 1))(*arguments)
    assert np.sign(by_mean[0]) == action
    assert np.isfinite(by_log_std[0])
    # 7.6 is as near to the end as the correction can tell.
    assert density(jnp.array([7.6 * action]), jnp.array([-5.0])) > density(jnp.array([9.0 * action]), jnp.array([-5.0]))
