import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilolayer.errors import ConfigurationError
from kilolayer.objectives import (
    LOSSES,
    Energy,
    binary_nce,
    contrastive_metrics,
    infonce_backward,
    infonce_forward,
    infonce_symmetric,
    logsumexp_penalty,
    loss_function,
)

BATCH, SIZE = 5, 3


def direct_loss(name, logits):
    """Compute a loss entry by entry from its definition, in numpy."""
    batch = len(logits)
    if name == "logsumexp_penalty":
        return np.mean([np.log(np.sum(np.exp(row))) ** 2 for row in logits])
    forward = -np.mean([np.log(np.exp(logits[i, i]) / np.exp(logits[i]).sum()) for i in range(batch)])
    backward = -np.mean([np.log(np.exp(logits[j, j]) / np.exp(logits[:, j]).sum()) for j in range(batch)])
    if name == "binary_nce":
        total = 0.0
        for i in range(batch):
            total += np.log1p(np.exp(-logits[i, i]))
            total += np.mean([np.log1p(np.exp(logits[i, j])) for j in range(batch) if j != i])
        return total / batch
    return {
        "infonce_forward": forward,
        "infonce_backward": backward,
        "infonce_symmetric": (forward + backward) / 2,
    }[name]


def direct_energy(name, a, b, xp):
    """Compute every energy from the definition, over batch x batch x size numbers, in numpy or jax.numpy."""
    a, b = a[:, None, :], b[None, :, :]
    if name == "cosine":
        a = a / xp.sqrt(xp.sum(a**2, axis=-1, keepdims=True))
        b = b / xp.sqrt(xp.sum(b**2, axis=-1, keepdims=True))
        return xp.sum(a * b, axis=-1) / 0.1
    if name == "dot":
        return xp.sum(a * b, axis=-1)
    squares = xp.sum((a - b) ** 2, axis=-1)
    return -squares if name == "squared_l2" else -xp.sqrt(squares)


@pytest.mark.parametrize("name", LOSSES)
def test_rows_that_are_not_valid_count_for_nothing(name):
    """The loss is that of the valid state-actions, contrasted with each other; all goals stay negatives in a row."""
    logits, valid = random(BATCH, BATCH), np.array([True, False, True, True, False])
    loss = loss_function(name)
    found = loss(jnp.asarray(logits), jnp.asarray(valid))
    changed = logits.copy()
    changed[~valid] = 50.0
    np.testing.assert_allclose(loss(jnp.asarray(changed), jnp.asarray(valid)), found, rtol=1e-6)
    np.testing.assert_allclose(loss(jnp.asarray(logits), jnp.ones(BATCH, bool)), direct_loss(name, logits), rtol=1e-5)
    kept = [j for j in range(BATCH) if valid[j]]
    rows = {
        "infonce_forward": np.mean([np.log(np.exp(logits[i]).sum()) - logits[i, i] for i in kept]),
        "infonce_backward": np.mean([np.log(np.exp(logits[kept, j]).sum()) - logits[j, j] for j in kept]),
    }
    if name in rows:
        np.testing.assert_allclose(found, rows[name], rtol=1e-5)
    gradient = jax.grad(loss)(jnp.asarray(logits), jnp.zeros(BATCH, bool))
    assert np.all(np.asarray(gradient) == 0.0)


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


OBJECTIVES = {**LOSSES, "logsumexp_penalty": logsumexp_penalty}


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("batch", [2, 5])
def test_each_loss_is_its_definition(x64, name, batch):
    logits = 2.0 * random(batch, batch)
    assert float(jax.jit(OBJECTIVES[name])(logits)) == pytest.approx(direct_loss(name, logits), rel=1e-12)


def test_the_names_lead_to_the_losses():
    assert loss_function("infonce_forward") is infonce_forward
    assert loss_function("infonce_backward") is infonce_backward
    assert loss_function("infonce_symmetric") is infonce_symmetric
    assert loss_function("binary_nce") is binary_nce
    with pytest.raises(ConfigurationError, match="loss='triplet' is unknown; choose one of infonce_forward"):
        loss_function("triplet")


@pytest.mark.parametrize("name", LOSSES)
def test_every_entry_counts_positives_pulled_up_and_negatives_pushed_down(x64, name):
    gradient = np.asarray(jax.jit(jax.grad(LOSSES[name]))(jnp.asarray(random(BATCH, BATCH))))
    diagonal = np.eye(BATCH, dtype=bool)
    assert np.all(gradient[diagonal] < -1e-3)
    assert np.all(gradient[~diagonal] > 1e-3)


def test_binary_nce_has_its_negatives(x64):
    logits = jnp.asarray(random(BATCH, BATCH))
    raised = logits.at[1, 3].add(1.0)
    expected = (np.logaddexp(0.0, raised[1, 3]) - np.logaddexp(0.0, logits[1, 3])) / (BATCH * (BATCH - 1))
    assert float(binary_nce(raised) - binary_nce(logits)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("energy", ["l2", "squared_l2", "dot", "cosine"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_agree_with_finite_differences_and_with_a_direct_computation(x64, name, energy):
    parameters = random(2, BATCH, SIZE)

    def loss(parameters):
        return OBJECTIVES[name](Energy(energy).logits(*parameters))

    def direct(parameters):
        return OBJECTIVES[name](direct_energy(energy, *parameters, jnp))

    gradient, direct_gradient = jax.jit(lambda p: (jax.grad(loss)(p), jax.grad(direct)(p)))(parameters)
    np.testing.assert_allclose(gradient, direct_gradient, rtol=1e-9, atol=1e-11)

    def difference(step):
        ahead, behind = (direct_energy(energy, *(parameters + h), np) for h in (step, -step))
        return direct_loss(name, ahead) - direct_loss(name, behind)

    steps = 1e-5 * np.eye(parameters.size).reshape(-1, *parameters.shape)
    slopes = np.array([difference(step) for step in steps]).reshape(parameters.shape) / 2e-5
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-8)
    assert np.abs(gradient).min() > 0.0


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_large_logits_give_finite_losses_and_gradients(name, scale):
    value, gradient = jax.jit(jax.value_and_grad(OBJECTIVES[name]))(scale * jnp.asarray(random(BATCH, BATCH)))
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


def test_indifferent_logits_cost_the_logarithm_of_the_batch():
    for name in ("infonce_forward", "infonce_backward", "infonce_symmetric"):
        assert float(LOSSES[name](jnp.zeros((8, 8)))) == pytest.approx(np.log(8.0), rel=1e-6)
    assert float(binary_nce(jnp.zeros((8, 8)))) == pytest.approx(2.0 * np.log(2.0), rel=1e-6)
    assert float(logsumexp_penalty(jnp.zeros((8, 8)))) == pytest.approx(np.log(8.0) ** 2, rel=1e-6)


numbers = st.integers(-8, 8).map(lambda n: n / 2)
logit_matrices = st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=4, max_size=4).map(np.array)
shifts = st.lists(numbers, min_size=4, max_size=4).map(np.array)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(logits=logit_matrices, shift=shifts)
def test_forward_infonce_does_not_see_row_shifts_nor_backward_column_shifts(logits, shift):
    with jax.enable_x64(True):
        by_row, by_column = jnp.asarray(logits + shift[:, None]), jnp.asarray(logits + shift)
        logits = jnp.asarray(logits)
        assert float(infonce_forward(by_row)) == pytest.approx(float(infonce_forward(logits)), abs=1e-9)
        assert float(infonce_backward(by_column)) == pytest.approx(float(infonce_backward(logits)), abs=1e-9)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(logits=logit_matrices, order=st.permutations(range(4)))
def test_losses_are_positive_and_do_not_see_the_order_of_the_batch(logits, order):
    with jax.enable_x64(True):
        for loss in map(jax.jit, LOSSES.values()):
            value = float(loss(jnp.asarray(logits)))
            assert value > 0.0
            assert float(loss(jnp.asarray(logits[np.ix_(order, order)]))) == pytest.approx(value, abs=1e-9)


def test_metrics_of_a_batch_worked_by_hand():
    logits = jnp.array([[4.0, 0.0], [3.0, 2.0]])
    phi, psi = jnp.array([[3.0, 4.0], [0.0, 1.0]]), jnp.array([[0.0, 2.0], [0.0, 0.0]])
    metrics = contrastive_metrics(logits, phi, psi)
    expected = {
        "categorical_accuracy": 0.5,
        "logits_positive": 3.0,
        "logits_negative": 1.5,
        "logsumexp": (np.log(np.exp(4.0) + 1.0) + np.log(np.exp(3.0) + np.exp(2.0))) / 2.0,
        "phi_norm": 3.0,
        "psi_norm": 1.0,
    }
    assert {name: float(value) for name, value in metrics.items()} == pytest.approx(expected, rel=1e-6)
