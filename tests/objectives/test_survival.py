"""Hazards, time geometry and occupancy: the mathematics of survival critics."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kilolayer.errors import ConfigurationError
from kilolayer.objectives import TimeBins, survival

STEPS = TimeBins(50, 50, "linear")
FEW = TimeBins(50, 7)


def logits_of(bins, seed=0, rows=5):
    return jax.random.normal(jax.random.key(seed), (rows, 1 + len(bins)))


# Bins


@pytest.mark.parametrize(("bins", "count"), [(STEPS, 50), (FEW, 7), (TimeBins(1000, 1000), 425), (TimeBins(1, 1), 1)])
def test_bins_hold_every_step_once(bins, count):
    assert len(bins) == count
    assert (bins.starts[0], bins.ends[-1]) == (0, bins.horizon)
    assert np.all(bins.sizes >= 1)
    assert bins.sizes.sum() == bins.horizon
    np.testing.assert_array_equal(bins.starts[1:], bins.ends[:-1])


def test_the_published_bins_of_occupancy_are_thirty():
    assert len(TimeBins(1000, 32)) == 30
    assert TimeBins(1000, 32).discounted(0.999).sum() * 0.999 == pytest.approx(631.67, abs=0.01)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ((0, 1), "horizon=0 must be at least 1"),
        ((10, 11), "bins=11 must be from 1 to the horizon, 10"),
        ((10, 0), "bins=0 must be from 1 to the horizon, 10"),
    ],
)
def test_bins_that_cannot_be_are_one_line(settings, words):
    with pytest.raises(ConfigurationError, match=words):
        TimeBins(*settings)


def test_an_unknown_spacing_is_one_line(no_type_checks):
    with pytest.raises(ConfigurationError, match="spacing='cubic' is unknown; choose one of geometric, linear"):
        TimeBins(10, 5, "cubic")


# Hazards


@pytest.mark.parametrize("bins", [STEPS, FEW])
def test_probabilities_sum_to_one(bins, x64):
    probabilities = survival.arrival_probabilities(logits_of(bins).astype(jnp.float64))
    assert probabilities.shape == (5, len(bins) + 2)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1.0, atol=1e-12)


def step_probabilities(logits, bins):
    """Return P(T = k) and P(T > k) for k in 0 ... horizon, bin by bin and step by step."""
    hazard = np.asarray(jax.nn.sigmoid(logits), np.float64)
    found, alive = [hazard[0]], [1.0 - hazard[0]]
    for own, size in zip(hazard[1:], bins.sizes, strict=True):
        each = 1.0 - (1.0 - own) ** (1.0 / size)
        for _ in range(size):
            found.append(alive[-1] * each)
            alive.append(alive[-1] * (1.0 - each))
    return np.array(found), np.array(alive)


@pytest.mark.parametrize("bins", [STEPS, FEW])
@pytest.mark.parametrize("discount", [0.9, 0.999])
def test_the_value_is_the_discounted_time_without_the_goal(bins, discount, x64):
    logits = logits_of(bins).astype(jnp.float64) - 2.0
    for own, value in zip(logits, survival.survival_value(logits, bins, discount), strict=True):
        _, alive = step_probabilities(own, bins)
        assert value == pytest.approx(-np.sum(alive[:-1] * discount ** np.arange(bins.horizon)), rel=1e-9)


@pytest.mark.parametrize("spacing", ["linear", "geometric"])
def test_a_constant_hazard_has_its_closed_form(spacing, x64):
    hazard, now, discount = 0.03, 0.2, 0.99
    bins = TimeBins(3000, 3000 if spacing == "linear" else 40, spacing)
    logits = np.concatenate([[now], 1.0 - (1.0 - hazard) ** bins.sizes])
    logits = jnp.asarray(np.log(logits) - np.log1p(-logits).clip(-700))
    value = survival.survival_value(jnp.minimum(logits, 700.0), bins, discount)
    assert value == pytest.approx(-(1.0 - now) / (1.0 - discount * (1.0 - hazard)), rel=1e-9)


@pytest.mark.parametrize("bins", [STEPS, FEW])
def test_the_loss_is_the_log_likelihood_of_bins(bins, x64):
    logits = logits_of(bins, rows=51).astype(jnp.float64)
    time = jnp.arange(51)
    probabilities = survival.arrival_probabilities(logits)
    own = np.where(time == 0, 0, 1 + np.searchsorted(bins.ends, time))
    expected = -np.log(np.take_along_axis(np.asarray(probabilities), own[:, None], axis=1)[:, 0])
    np.testing.assert_allclose(survival.hazard_loss(logits, jnp.ones(51, bool), time, bins), expected, rtol=1e-9)
    for row, censored in enumerate(survival.hazard_loss(logits, jnp.zeros(51, bool), time, bins)):
        _, alive = step_probabilities(logits[row], bins)
        assert censored == pytest.approx(-np.log(alive[row]), rel=1e-7)


def test_gradients_are_finite_at_extreme_logits():
    def total(logits):
        losses = survival.hazard_loss(logits, jnp.array([True, True, False]), jnp.array([0, 9, 30]), FEW)
        return jnp.sum(losses) + jnp.sum(survival.survival_value(logits, FEW, 0.999))

    for logit in (-80.0, 80.0):
        gradient = jax.grad(total)(jnp.full((3, 1 + len(FEW)), logit))
        assert jnp.all(jnp.isfinite(gradient))


def test_hazards_become_those_of_a_world_with_known_arrival_times():
    """A coin decides: step 3 or step 20; a third of the rows never arrive."""
    bins = TimeBins(32, 32, "linear")
    time = jnp.where(jnp.arange(30) % 3 == 0, 3, jnp.where(jnp.arange(30) % 3 == 1, 20, 32))
    arrived = jnp.arange(30) % 3 != 2
    optimizer, logits = optax.adam(0.1), jnp.zeros(1 + len(bins))
    state = optimizer.init(logits)

    @jax.jit
    def step(logits, state):
        gradient = jax.grad(
            lambda logits: jnp.mean(survival.hazard_loss(jnp.tile(logits, (30, 1)), arrived, time, bins))
        )(logits)
        updates, state = optimizer.update(gradient, state)
        return logits + updates, state

    for _ in range(2000):
        logits, state = step(logits, state)
    found = survival.arrival_probabilities(logits)
    np.testing.assert_allclose(found[jnp.array([3, 20, 33])], 1.0 / 3.0, atol=0.01)


# Geometry


def test_the_optimum_of_the_geometry_is_time_on_a_chain():
    """States of a line, one step apart: distances of embeddings that learn from all pairs are scale * time."""
    scale, states = 0.05, jnp.arange(6)
    start, goal = (each.ravel() for each in jnp.meshgrid(states, states))
    pairs = goal > start
    optimizer, places = optax.adam(0.01), 0.1 * jax.random.normal(jax.random.key(0), (6, 3))
    state = optimizer.init(places)

    def loss(places):
        distance = jnp.linalg.norm(places[start] - places[goal] + 1e-9, axis=-1)
        return survival.time_geometry(distance, goal - start, pairs, scale)

    step = jax.jit(lambda places, state: optimizer.update(jax.grad(loss)(places), state))
    for _ in range(2000):
        updates, state = step(places, state)
        places = places + updates
    distance = jnp.linalg.norm(places[start] - places[goal], axis=-1)
    np.testing.assert_allclose(distance[pairs], scale * (goal - start)[pairs], atol=2e-3)


def test_only_pairs_that_are_asked_for_and_too_near_are_pushed_apart():
    distances = jnp.array([[0.1, 0.9], [0.4, 0.2]])
    assert survival.separation(distances, jnp.array([[False, True], [True, True]]), 0.5) == pytest.approx(0.4 / 3)
    assert survival.separation(distances, jnp.zeros((2, 2), bool), 0.5) == 0.0


# Occupancy


def test_targets_are_means_of_what_was_seen_and_nothing_follows_a_failure():
    bins = TimeBins(8, 3)  # steps 1-2, 3-4, 5-8
    assert bins.ends.tolist() == [2, 4, 8]
    nearness = jnp.tile(jnp.array([1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]), (3, 1))
    observed, failed = jnp.array([8, 3, 3]), jnp.array([False, False, True])
    target, seen = survival.occupancy_targets(nearness, observed, failed, bins)
    np.testing.assert_allclose(target, [[0.5, 1.0, 1.0], [0.5, 1.0, 0.0], [0.5, 0.5, 0.0]])
    np.testing.assert_array_equal(seen, [[True, True, True], [True, True, False], [True, True, True]])


def test_the_value_of_occupancy_has_its_closed_form():
    bins = TimeBins(1000, 32)
    always = survival.occupancy_value(jnp.full(len(bins), 80.0), bins, 0.999)
    assert always == pytest.approx(0.999 * (1.0 - 0.999**1000) / 0.001, rel=1e-5)
    assert survival.occupancy_value(jnp.full(len(bins), -80.0), bins, 0.999) == pytest.approx(0.0, abs=1e-20)


def test_the_loss_of_occupancy_is_least_at_its_targets():
    target = jnp.array([[0.2, 0.7]])
    seen, valid = jnp.array([[True, True]]), jnp.array([True])
    logits = jnp.log(target) - jnp.log1p(-target)
    gradient = jax.grad(survival.occupancy_loss)(logits, target, seen, valid)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-7)
    assert survival.occupancy_loss(logits, target, seen, ~valid) == 0.0
