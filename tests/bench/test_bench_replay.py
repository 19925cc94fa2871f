"""The benchmark of replay draws what it says, from a buffer of any size."""

import jax
import pytest

from kilolayer.bench import replay
from kilolayer.bench.replay import FORMS, ReplayCost, measure


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
    sizes = {"NUM_ENVS": 3, "CAPACITY": 40, "CHUNK": 20, "NUM_BATCHES": 4, "BATCH_SIZE": 8, "LABELLED": 6, "WINDOW": 10}
    for name, value in sizes.items():
        monkeypatch.setattr(replay, name, value)
    monkeypatch.setattr(replay, "copy_rate", lambda: 1e9)


@pytest.mark.parametrize(("form", "rows"), [("kilolayer", 8), ("survival labels", 6)])
def test_a_row_says_what_was_drawn(form, rows):
    row = ReplayCost(**measure(form, rounds=2))
    assert (row.form, row.batch_size, row.num_batches, row.num_envs, row.capacity) == (form, rows, 4, 3, 40)
    assert 0 < row.fastest_seconds <= row.step_seconds <= row.slowest_seconds
    assert (row.contrastive_ratio is not None) == (form == "survival labels")
    floats = 29 + 8 + 2  # observation, action, goal
    of_labels = 10 * 4 + 2 * 4 + 3  # nearness; time and observed; arrived, failed, valid
    expected = rows * (4 * floats + (of_labels if form == "survival labels" else 0))
    assert row.floor_seconds * 1e9 == pytest.approx(expected)


def test_labels_are_of_the_rows_that_the_last_key_draws():
    buffer = replay._filled_buffer(jax.random.key(0))
    labels = FORMS["survival labels"](buffer, jax.random.key(1))
    assert labels.nearness.shape == (6, 10)
    assert labels.arrived.any()
    assert int(labels.observed.max()) <= 10
