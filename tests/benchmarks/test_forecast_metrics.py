"""The figures that the forecast benchmark prints."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import forecast_metrics as metrics


def test_the_scale_is_the_mean_absolute_difference_a_day_apart_of_what_is_known() -> None:
    context = np.array([[1.0, 2.0, 4.0, 2.0], [1.0, np.nan, 4.0, 9.0], [np.nan, 1.0, 1.0, np.nan]])
    scale = metrics.seasonal_scale(context, 2)
    assert scale[:2].tolist() == [1.5, 3.0]
    assert np.isnan(scale[2])


def test_a_quantile_too_low_costs_its_level_and_one_too_high_the_rest() -> None:
    loss = metrics.pinball(np.array([[10.0, 10.0, 10.0]]), np.array([[8.0, 10.0, 14.0]]), 0.95)
    assert loss[0].tolist() == pytest.approx([1.9, 0.0, 0.2])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_constant_has_a_lower_loss_than_the_sample_quantile(seed: int) -> None:
    sample = np.random.default_rng(seed).gamma(2.0, size=201)
    best = metrics.pinball(sample, np.full(201, np.quantile(sample, 0.95)), 0.95).mean()
    for other in (0.5, 0.9, 0.99):
        assert best <= metrics.pinball(sample, np.full(201, np.quantile(sample, other)), 0.95).mean() + 1e-12


def _scores(spl: list[float], series: list[int]) -> metrics.Scores:
    values = np.array(spl)
    return metrics.Scores(np.array(series), values, values, np.stack([values] * 3))


def test_scores_are_in_units_of_the_scale_and_absent_where_nothing_was_forecast() -> None:
    actual = np.array([[1.0, 3.0], [5.0, 5.0]])
    mean = np.array([[2.0, 2.0], [np.nan, 5.0]])
    quantiles = np.stack([np.array([[2.0, 2.0], [9.0, 9.0]])] * 3)
    found = metrics.score(np.arange(2), actual, mean, quantiles, np.array([2.0, 1.0]))
    assert found.mase[0] == 0.5
    assert found.spl[0] == pytest.approx((0.05 * 1 + 0.95 * 1) / 2 / 2)
    assert found.hits[:, 0].tolist() == [0.5, 0.5, 0.5]
    assert found.done.tolist() == [True, False]
    assert np.isnan(found.hits[:, 1]).all()


def test_the_interval_is_of_series_and_not_of_rows() -> None:
    values = np.repeat(np.random.default_rng(1).normal(size=40), 9)
    by_series = metrics.mean_of(values, np.repeat(np.arange(40), 9))
    by_row = metrics.mean_of(values, np.arange(360))
    assert [by_series.value, by_row.value] == pytest.approx([values.mean()] * 2)
    assert by_series.high - by_series.low > 2 * (by_row.high - by_row.low)
    assert by_series == metrics.mean_of(values, np.repeat(np.arange(40), 9))


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(7)
    found = [metrics.mean_of(generator.normal(size=60), np.arange(60)) for _ in range(100)]
    assert 88 <= sum(i.low <= 0 <= i.high for i in found) <= 100


def test_pooling_weighs_every_row_alike_and_passes_over_sets_without_a_value() -> None:
    sets = [
        (np.array([1.0, 1.0, 4.0]), np.array([0, 0, 1])),
        (np.array([2.0]), np.array([0])),
        (np.array([np.nan]), np.array([0])),
    ]
    assert metrics.pooled_mean(sets).value == 2.0
    assert np.isnan(metrics.pooled_mean(sets[2:]).value)


def test_a_rival_is_compared_on_the_rows_that_both_forecast() -> None:
    ours = _scores([1.0, 2.0, 3.0, np.nan], [0, 0, 1, 1])
    other = _scores([1.5, np.nan, 3.5, 0.0], [0, 0, 1, 1])
    assert metrics.advantage(ours, other) == metrics.Interval(0.5, 0.5, 0.5)
    assert metrics.advantage(other, ours) == metrics.Interval(-0.5, -0.5, -0.5)


def test_origins_are_joined_row_by_row() -> None:
    both = metrics.joined([_scores([1.0], [0]), _scores([2.0, 3.0], [0, 1])])
    assert both.spl.tolist() == [1.0, 2.0, 3.0]
    assert both.series.tolist() == [0, 0, 1]
    assert both.hits.shape == (3, 3)
