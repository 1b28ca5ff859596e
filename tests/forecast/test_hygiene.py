"""Hygiene: faults and outages are masked before the fit only, and what no family can forecast has a named fallback."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from foreshard.forecast import fallback, hygiene
from foreshard.forecast.batch import LEVELS, Batch, Floats
from foreshard.forecast.hygiene import clean, fleet_outages

HOUR = timedelta(hours=1)
START = datetime(2024, 3, 4, tzinfo=UTC)
DAY, WEEK = 24, 168


def week(hours: int = 3 * WEEK) -> Floats:
    t = np.arange(hours)
    of_week = (t // DAY) % 7
    return 100 * (1.2 + np.sin(2 * np.pi * t / DAY)) * np.where(of_week < 5, 1.0, 0.6)


def fleet(series: int = 20, hours: int = 3 * WEEK, seed: int = 1) -> Batch:
    """Counts around a weekly cycle, levels from 1 to 100 times as high."""
    draw = np.random.default_rng(seed)
    levels = np.geomspace(0.05, 5, series)[:, None]
    return batch_of(draw.poisson(levels * week(hours)).astype(float))


def batch_of(values: Floats) -> Batch:
    return Batch(tuple(f"s{i}" for i in range(len(values))), START, HOUR, np.array(values, dtype=np.float64))


def changed(batch: Batch, row: int, where: slice, value: float) -> Batch:
    values = batch.values.copy()
    values[row, where] = value
    return replace(batch, values=values)


def test_a_healthy_fleet_is_left_alone() -> None:
    batch = fleet(40)
    made = clean(batch, fleet_outages(batch))
    np.testing.assert_array_equal(made.batch.values, batch.values)
    assert made.reasons == ("",) * 40
    assert made.notes() == ("",) * 40


def test_an_outage_of_one_series_is_masked_and_the_raw_values_stay() -> None:
    batch = changed(fleet(), 15, slice(250, 262), 0.0)
    made = clean(batch)
    assert np.isnan(made.batch.values[15, 250:262]).all()
    assert np.isnan(made.batch.values).sum() == 12
    assert made.raw is batch
    assert (made.raw.values[15, 250:262] == 0).all()
    assert made.reasons[15] == ""
    assert made.notes()[15] == "masked: 12 values in an outage"


def test_an_event_explains_what_would_be_an_outage() -> None:
    batch = changed(fleet(), 15, slice(250, 262), 0.0)
    spared = np.zeros(batch.values.shape, dtype=bool)
    spared[15, 240:264] = True
    np.testing.assert_array_equal(clean(batch, spared=spared).batch.values, batch.values)


def test_series_that_are_often_empty_have_no_outages() -> None:
    draw = np.random.default_rng(3)
    batch = batch_of(draw.poisson(0.3, (30, 3 * WEEK)).astype(float))
    assert np.isfinite(clean(batch).batch.values).all()
    office = np.where((np.arange(3 * WEEK) // DAY % 7 < 5) & (np.arange(3 * WEEK) % DAY > 7), 50.0, 0.0)
    assert np.isfinite(clean(batch_of(office[None] + draw.poisson(5, (1, 3 * WEEK)) * (office > 0))).batch.values).all()


def test_an_outage_up_to_the_end_is_masked_for_half_a_day_and_believed_after_that() -> None:
    short, long = changed(fleet(), 18, slice(-12, None), 0.0), changed(fleet(), 18, slice(-13, None), 0.0)
    assert np.isnan(clean(short).batch.values[18, -12:]).all()
    assert np.isfinite(clean(long).batch.values[18]).all()


def test_an_outage_of_the_whole_fleet_is_masked_for_small_series_too() -> None:
    batch = fleet(50)
    batch.values[:, 300:303] = 0.0
    out = fleet_outages(batch)
    assert np.flatnonzero(out).tolist() == [300, 301, 302]
    one = batch.take([0])
    made = clean(one, out)
    assert np.isnan(made.batch.values[0, 300:303]).all()
    assert made.masked["values in an outage of the fleet"].tolist() == [3]


def test_a_fleet_that_sleeps_at_night_is_not_out() -> None:
    hours = np.arange(3 * WEEK)
    batch = batch_of(np.tile(np.where(hours % DAY < 8, 0.0, 100.0), (5, 1)))
    assert not fleet_outages(batch).any()


def test_values_that_are_no_loads_are_masked_and_counted() -> None:
    batch = fleet()
    values = batch.values.copy()
    values[3, 5], values[3, 6], values[3, 7], values[3, 8] = np.inf, -np.inf, np.nan, -5.0
    made = clean(replace(batch, values=values))
    assert np.isnan(made.batch.values[3, 5:9]).all()
    assert made.reasons[3] == ""
    assert made.notes()[3] == "masked: 2 values that are not finite, 1 values below zero"


@pytest.mark.parametrize(
    ("series", "reason"),
    [
        (np.full(3 * WEEK, np.nan), hygiene.NO_VALUES),
        (np.full(3 * WEEK, -1.0), hygiene.NO_VALUES),
        (np.zeros(3 * WEEK), hygiene.NO_LOAD),
        (np.r_[week(2 * WEEK), np.zeros(WEEK)], hygiene.DEAD),
        (np.r_[np.full(3 * WEEK - 100, np.nan), week(100)], hygiene.NEW),
        (np.r_[np.zeros(3 * WEEK - 100), week(100)], hygiene.NEW),
        (np.r_[week(60), np.full(3 * WEEK - 60, np.nan)], hygiene.SPARSE),
        (np.full(3 * WEEK, 7.0), hygiene.CONSTANT),
        (np.r_[week(2 * WEEK + 1), np.zeros(WEEK - 1)], ""),
        (np.r_[np.full(2 * WEEK, np.nan), week(WEEK)], ""),
    ],
)
def test_what_no_family_can_forecast_has_a_named_reason(series: Floats, reason: str) -> None:
    batch = fleet(4)
    values = np.vstack([batch.values, series])
    assert clean(batch_of(values)).reasons == ("", "", "", "", reason)


@pytest.mark.parametrize("hours", [0, 1, 30, 167])
def test_a_history_of_less_than_a_week_is_too_short_for_every_series(hours: int) -> None:
    made = clean(batch_of(week(hours)[None] + 1.0))
    assert made.reasons == (hygiene.NEW if hours else hygiene.NO_VALUES,)


def test_zeros_long_before_a_series_begins_are_masked() -> None:
    series = np.r_[np.zeros(200), week(3 * WEEK - 200) + 1]
    made = clean(batch_of(series[None]))
    assert np.isnan(made.batch.values[0, :200]).all()
    assert np.isfinite(made.batch.values[0, 200:]).all()


loads = arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 400)),
    elements=st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.just(0.0), st.floats(0, 100)),
)


@given(loads)
def test_nothing_in_a_history_raises_and_a_row_depends_on_itself_alone(values: Floats) -> None:
    made = clean(batch_of(values))
    kept = made.batch.values
    assert ((kept >= 0) | np.isnan(kept)).all()
    assert np.isfinite(kept[~np.isnan(kept)]).all()
    assert set(made.reasons) <= {*hygiene.REASONS, ""}
    for row in range(len(values)):
        alone = clean(batch_of(values[row : row + 1]))
        np.testing.assert_array_equal(alone.batch.values[0], kept[row])
        assert alone.reasons[0] == made.reasons[row]


def test_a_new_shard_gets_the_week_of_its_donors_at_its_own_level() -> None:
    sample = fleet(60, 4 * WEEK)
    donors = fallback.learn(sample, DAY)
    # Three days old on a Friday evening: what it has not seen yet is a weekend.
    end = 3 * WEEK + 5 * DAY
    young = np.full((1, end), np.nan)
    young[0, -3 * DAY :] = 40 * week(end)[-3 * DAY :]
    made = clean(batch_of(young))
    assert made.reasons == (hygiene.NEW,)
    mean, quantiles = fallback.forecast(made.batch, made.reasons, DAY, donors)
    actual = 40 * week(end + DAY)[end:]
    assert np.abs(mean[0] - actual).mean() < 0.1 * actual.mean()
    assert np.abs(young[0, -DAY:] - actual).mean() > 0.4 * actual.mean(), "its own days would be far off"
    assert quantiles.shape == (len(LEVELS), 1, DAY)
    assert (np.diff(quantiles, axis=0) >= 0).all()


def test_the_band_of_new_shards_holds_what_comes() -> None:
    donors = fallback.learn(fleet(80, 4 * WEEK), DAY)
    later = fleet(300, 4 * WEEK, seed=9)
    known = later.values[:, : 3 * WEEK + 40].copy()
    known[:, : -2 * DAY] = np.nan
    batch = batch_of(known)
    _, quantiles = fallback.forecast(batch, [hygiene.NEW] * 300, DAY, donors)
    actual = later.values[:, known.shape[1] : known.shape[1] + DAY]
    assert np.mean(actual <= quantiles[LEVELS.index(0.95)]) == pytest.approx(0.95, abs=0.03)
    assert np.mean(actual <= quantiles[LEVELS.index(0.10)]) == pytest.approx(0.10, abs=0.07)


def test_dead_constant_and_empty_series_have_their_plain_forecasts() -> None:
    dead = np.r_[np.full(2 * WEEK, 100.0), np.zeros(WEEK)]
    values = np.vstack([dead, np.full(3 * WEEK, 7.0), np.zeros(3 * WEEK), np.full(3 * WEEK, np.nan), week()])
    made = clean(batch_of(values))
    mean, quantiles = fallback.forecast(made.batch, made.reasons, 5, fallback.learn(fleet(), 5))
    np.testing.assert_array_equal(mean, [[0] * 5, [7] * 5, [0] * 5, [0] * 5, [np.nan] * 5])
    assert (quantiles[:4, 0] == 0).all()
    assert (quantiles[-1, 0] > 0).all()
    assert (quantiles[-1, 0] < 2).all()
    assert (quantiles[:, 1] == 7).all()
    assert (quantiles[:, 2:4] == 0).all()
    assert np.isnan(quantiles[:, 4]).all()


@given(loads, st.integers(1, 30))
def test_fallbacks_are_finite_and_never_cross(values: Floats, horizon: int) -> None:
    made = clean(batch_of(values))
    reasons = [reason or hygiene.NEW for reason in made.reasons]
    mean, quantiles = fallback.forecast(made.batch, reasons, horizon, fallback.learn(made.batch, horizon))
    assert np.isfinite(mean).all()
    assert np.isfinite(quantiles).all()
    assert (mean >= 0).all()
    assert (quantiles >= 0).all()
    assert (np.diff(quantiles, axis=0) >= 0).all()
