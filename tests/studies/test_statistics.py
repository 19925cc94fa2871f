"""Statistics agree with rliable on shared data (recorded by `record_rliable.py`), and with their definitions."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from kilolayer.errors import ConfigurationError
from kilolayer.studies import bootstrap_interval, interquartile_mean, mean_and_error
from kilolayer.studies.core.statistics import interval_name, interval_or_range

RECORD = json.loads(Path(__file__).with_name("rliable.json").read_text())


def over_all(scores):
    return scores.mean(axis=(-2, -1))


@pytest.mark.parametrize("record", RECORD["records"], ids=lambda one: str(np.shape(one["scores"])))
def test_figures_and_intervals_are_those_of_rliable(record):
    """Figures to the last digits; ends of intervals to what 50,000 draws leave to chance."""
    scores = np.array(record["scores"])
    assert float(interquartile_mean(scores)) == pytest.approx(record["iqm"], abs=1e-12)
    assert float(over_all(scores)) == pytest.approx(record["mean"], abs=1e-12)
    for aggregate, interval in ((interquartile_mean, "iqm_interval"), (over_all, "mean_interval")):
        found = bootstrap_interval(scores, aggregate, resamples=RECORD["resamples"])
        np.testing.assert_allclose(found, record[interval], atol=0.004)


def test_intervals_widen_with_the_spread_and_hold_the_figure():
    random = np.random.default_rng(0)
    narrow, wide = random.normal(size=(8, 2)), 3.0 * random.normal(size=(8, 2))
    widths = [high - low for low, high in (bootstrap_interval(narrow), bootstrap_interval(wide))]
    assert widths[1] > 1.5 * widths[0]
    low, high = bootstrap_interval(narrow)
    assert low < float(interquartile_mean(narrow)) < high
    inner = bootstrap_interval(narrow, confidence=0.5)
    assert low < inner.low < inner.high < high


def test_a_task_keeps_its_own_seeds():
    """Between tasks there may be any distance: it is not what the interval is about."""
    scores = np.array([[0.0, 100.0], [1.0, 101.0], [2.0, 102.0]])
    low, high = bootstrap_interval(scores, over_all)
    assert 50.0 <= low < 51.0 < high <= 52.0


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end():
    scores = np.array([[-50.0], [1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [80.0]])
    assert float(interquartile_mean(scores)) == 3.5
    np.testing.assert_array_equal(interquartile_mean(np.stack([scores, scores + 1.0])), [3.5, 4.5])


def test_standard_errors_are_those_of_the_mean():
    mean, error = mean_and_error([1.0, 3.0, 8.0])
    assert (mean, error) == pytest.approx((4.0, scipy.stats.sem([1.0, 3.0, 8.0])))
    assert np.isnan(mean_and_error([4.0])[1])


@pytest.mark.parametrize("scores", [[], [[1.0, np.nan]], [[[1.0]]]])
def test_scores_that_are_no_table_are_refused(scores):
    with pytest.raises(ConfigurationError, match="must be seeds x tasks"):
        bootstrap_interval(scores)


@pytest.mark.parametrize("count", range(1, 10))
def test_few_seeds_have_a_range_and_no_interval(count):
    scores = np.random.default_rng(count).normal(size=count)
    expected = (scores.min(), scores.max()) if count < 6 else bootstrap_interval(scores)
    assert interval_or_range(scores) == pytest.approx(expected)
    assert interval_name([count, count]) == ("range" if count < 6 else "95 % interval")
    assert interval_name([count, 3, 8]) == "95 % interval (range below 6 seeds)"
