"""The engine: a row's forecast is its own, the backtest has not seen what it is judged by, and quantiles hold what they say."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.forecast import calibration, combination, costlier, engine
from foreshard.forecast.batch import LEVELS, Backtest, Batch, Floats, Prediction, backtest_of
from foreshard.forecast.combination import Blend
from foreshard.forecast.engine import Options
from foreshard.forecast.families import FAMILIES
from foreshard.forecast.lags import filled
from foreshard.forecast.spar import FEATURES, STRENGTHS, Spar, _features, _scaled, _targets

DAY, STEPS, HORIZON = 24, 504, 24
OPTIONS = Options(HORIZON)
START = datetime(2013, 11, 1, tzinfo=UTC)


def drawn(series: int, seed: int, steps: int = STEPS) -> Floats:
    """Counts with daily and weekly cycles of their own, levels over three decades, and a common shock."""
    draw = np.random.default_rng(seed)
    time = np.arange(steps)
    level = 10 ** draw.uniform(0.5, 3.5, (series, 1))
    phase = draw.uniform(0, 24, (series, 1))
    day = 1 + draw.uniform(0, 0.8, (series, 1)) * np.sin(2 * np.pi * (time + phase) / 24)
    week = 1 - draw.uniform(0, 0.5, (series, 1)) * ((time // 24) % 7 >= 5)
    common = np.exp(0.1 * np.repeat(draw.standard_normal(steps // 24 + 1), 24)[:steps])
    rate = level * day * week * common * np.exp(0.1 * draw.standard_normal((series, steps)))
    return draw.poisson(rate).astype(np.float64)


def batch_of(values: Floats, first: int = 0) -> Batch:
    return Batch(tuple(f"s{first + i}" for i in range(len(values))), START, timedelta(hours=1), values)


def test_a_series_is_forecast_alike_alone_in_a_batch_and_in_a_fleet() -> None:
    batch = batch_of(drawn(40, 1))
    fleet = pickle.loads(pickle.dumps(engine.learn(batch, OPTIONS)))
    whole = engine.forecast(batch, fleet, OPTIONS)
    at_once = engine.forecast_all(batch, OPTIONS)
    np.testing.assert_allclose(at_once.quantiles, whole.quantiles, rtol=1e-6)
    for row in (0, 17, 39):
        alone = engine.forecast(batch.take([row]), fleet, OPTIONS)
        np.testing.assert_allclose(alone.mean[0], whole.mean[row], rtol=1e-6)
        np.testing.assert_allclose(alone.quantiles[:, 0], whole.quantiles[:, row], rtol=1e-6)
        assert alone.model[0] == whole.model[row] == at_once.model[row]


def test_the_same_input_gives_the_same_bytes() -> None:
    values = drawn(30, 2)
    first, second = (engine.forecast_all(batch_of(values), OPTIONS) for _ in range(2))
    assert first.quantiles.tobytes() == second.quantiles.tobytes()
    assert first.errors.tobytes() == second.errors.tobytes()


def test_a_fleet_larger_than_the_sample_learns_from_the_smallest_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SAMPLED_SERIES", 20)
    batch = batch_of(drawn(50, 3))
    chosen = engine.sampled(batch.ids)
    fleet = engine.learn(batch.take(sorted(chosen)), OPTIONS)
    np.testing.assert_array_equal(engine.forecast_all(batch, OPTIONS).mean, engine.forecast(batch, fleet, OPTIONS).mean)
    # Whatever else is in the fleet: a hash does not depend on the order.
    other = batch.take(list(reversed(range(50))))
    assert [other.ids[i] for i in engine.sampled(other.ids)] == [batch.ids[i] for i in chosen]


def test_a_window_left_out_by_the_closed_form_is_one_left_out_of_the_fit() -> None:
    batch = batch_of(drawn(3, 4))
    backtest = backtest_of(batch, HORIZON, 14, 3 * DAY)
    family = Spar()
    learnt = family.learn(batch, backtest)
    made = family.predict(batch, backtest, learnt)["spar"].backtest
    lags, _ = _scaled(batch, backtest)
    target, _ = _targets(batch, backtest, lags)
    features = _features(lags)[:, :-1]
    left = target - np.einsum("nwhp,hp->nwh", features, learnt.fleet)
    features = features / np.sqrt(learnt.size + 1e-9)
    unit = (batch.values[:, DAY:] - batch.values[:, :-DAY]).__abs__().mean(axis=1)
    for series, window, step in ((0, 0, 0), (1, 7, 11), (2, 13, 23)):
        others = [w for w in range(14) if w != window]
        design, answer = features[series, others, step], left[series, others, step]
        ridge = STRENGTHS["spar"] * FEATURES * np.eye(FEATURES)
        own = features[series, window, step] @ np.linalg.solve(design.T @ design + ridge, design.T @ answer)
        expected = target[series, window, step] - left[series, window, step] + own + lags.last_week[series, window, step]
        assert made[series, window, step] == pytest.approx(expected * unit[series], rel=1e-9)


def test_the_forecast_is_better_than_both_seasonal_naive_ones_and_its_quantiles_hold() -> None:
    values = drawn(400, 5, STEPS + HORIZON)
    made = engine.forecast_all(batch_of(values[:, :STEPS]), OPTIONS)
    actual = values[:, STEPS:]
    unit = np.abs(values[:, DAY:STEPS] - values[:, : STEPS - DAY]).mean(axis=1)
    error = (np.abs(actual - made.mean).mean(axis=1) / unit).mean()
    for season in (DAY, 7 * DAY):
        naive = values[:, STEPS - season : STEPS - season + HORIZON]
        assert error < 0.9 * (np.abs(actual - naive).mean(axis=1) / unit).mean()
    for number, level in enumerate(LEVELS):
        # The last day's common shock moves all series at once, so that a day's coverage strays further than 9,600 draws would.
        assert np.mean(actual <= made.quantiles[number]) == pytest.approx(level, abs=0.06)


def test_errors_of_the_backtest_are_those_of_the_blend() -> None:
    batch = batch_of(drawn(5, 6))
    made = engine.forecast_all(batch, OPTIONS)
    assert made.errors.shape == (5, 14, HORIZON)
    assert np.isfinite(made.errors).all()
    late = batch.values.copy()
    late[0, :250] = np.nan
    errors = engine.forecast_all(batch_of(late), OPTIONS).errors
    assert np.isnan(errors[0, :7]).all(), "windows without three days of the series before them are not judged"
    assert np.isfinite(errors[0, 7:]).all()


@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.sampled_from([80, 200, 504, 700]),
    st.sampled_from([1, 6, 24, 36]),
    st.floats(0, 1),
    st.sampled_from([0.0, 1e-9, 1.0, 1e12]),
)
def test_any_history_gives_finite_ordered_quantiles_that_are_not_negative(
    seed: int, steps: int, horizon: int, unknown: float, size: float
) -> None:
    values = drawn(6, seed, steps) * size
    draw = np.random.default_rng(seed)
    values[draw.random(values.shape) < unknown] = np.nan
    values[0], values[1] = np.nan, 5.0
    made = engine.forecast_all(batch_of(values), Options(horizon))
    assert made.mean.shape == (6, horizon)
    assert np.isfinite(made.mean).all()
    assert np.isfinite(made.quantiles).all()
    assert (made.quantiles >= 0).all()
    assert (np.diff(made.quantiles, axis=0) >= 0).all()


@given(st.integers(0, 10**6), st.floats(0, 0.95))
def test_gaps_are_filled_from_the_same_time_of_the_day_and_nothing_known_changes(seed: int, unknown: float) -> None:
    draw = np.random.default_rng(seed)
    whole = draw.uniform(1, 9, (4, 24 * 21))
    gaps = draw.random(whole.shape) < unknown
    found = filled(np.where(gaps, np.nan, whole), 24)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[~gaps], whole[~gaps])
    # A clock has one value at each time of the day, so that whatever stands in is right.
    clock = np.tile(np.arange(24.0), (4, 21))
    holes = np.where(gaps, np.nan, clock)
    full = filled(holes, 24)
    seen = np.array([[np.isfinite(row[hour::24]).any() for hour in range(24)] for row in holes])
    right = full == clock
    assert (right | ~np.tile(seen, 21)).all()


def test_the_better_member_gets_the_weight_and_a_window_has_none_in_its_own() -> None:
    batch = batch_of(drawn(2, 7))
    backtest = backtest_of(batch, HORIZON, 10, 3 * DAY)
    actual = backtest.windows(batch.values)
    good = Prediction(actual[:, -1], actual + 1.0)
    bad = Prediction(actual[:, -1] * 3, actual + 10.0)
    blend = combination.blend(batch, backtest, {"good": good, "bad": bad})
    assert blend.weights[0] == pytest.approx(1.0, abs=1e-3)
    assert blend.described()[0] == "1.00 good"
    # Good but for one window: that window's own blend does not know of it.
    spoilt = actual + 1.0
    spoilt[:, 4] += 1e4
    blend = combination.blend(batch, backtest, {"spoilt": Prediction(actual[:, -1], spoilt), "bad": bad})
    assert blend.fitted[0, 4].mean() == pytest.approx(spoilt[0, 4].mean(), rel=0.05)
    assert blend.fitted[0, 5].mean() == pytest.approx((actual[0, 5] + 10).mean(), rel=0.05)
    nowhere = replace(bad, mean=np.full_like(bad.mean, np.nan))
    assert (combination.blend(batch, backtest, {"good": good, "nowhere": nowhere}).weights[1] == 0).all()


def test_quantiles_of_a_known_error_are_found() -> None:
    draw = np.random.default_rng(8)
    series, windows = 300, 14
    spread = 10 ** draw.uniform(-1, 2, (series, 1, 1))
    errors = spread * draw.standard_normal((series, windows, HORIZON))
    mean = np.full((series, HORIZON), 1e6)
    blend = Blend(
        ("one",), mean, np.full(errors.shape, 1e6), errors, np.ones((1, series)), np.zeros((series, windows + 1, HORIZON))
    )
    found = (calibration.quantiles(blend, calibration.learn(blend)) - mean) / spread[:, 0]
    for number, normal in enumerate((-1.645, -1.282, 0.0, 1.282, 1.645, 2.326)):
        assert np.median(found[number]) == pytest.approx(normal, abs=0.12)


def test_series_that_no_family_can_forecast_have_a_named_fallback_and_leave_the_others_alone() -> None:
    values = drawn(30, 9)
    expected = engine.forecast_all(batch_of(values), OPTIONS)
    bad = np.full((5, STEPS), np.nan)
    bad[1] = 0.0
    bad[2] = 7.0
    bad[3, -50:] = drawn(1, 10)[0, -50:]
    bad[4, : STEPS - 200] = drawn(1, 11)[0, : STEPS - 200]
    bad[4, STEPS - 200 :] = 0.0
    batch = batch_of(np.vstack([values, bad]))
    fleet = engine.learn(batch_of(values), OPTIONS)
    made = engine.forecast(batch, fleet, OPTIONS)
    assert made.fallback_reason[30:] == (
        "no value in the history",
        "no load in the history",
        "the history is constant",
        "less than 7 days of history",
        "no load in the last 7 days",
    )
    assert made.model[31] == "fallback: no load in the history"
    assert set(made.fallback_reason[:30]) == {""}
    np.testing.assert_allclose(made.quantiles[:, :30], expected.quantiles, rtol=1e-6)
    assert (made.mean[30:32] == 0).all()
    assert (made.mean[32] == 7).all()
    assert made.mean[33].mean() == pytest.approx(np.nanmean(bad[3]), rel=0.5)
    assert np.isnan(made.errors[30:]).all()


def test_a_holiday_ahead_lowers_a_load_of_working_days_and_widens_its_band() -> None:
    start = datetime(2014, 11, 6, tzinfo=UTC)  # 21 days before Thanksgiving
    time = np.arange(STEPS)
    working = (np.array([(start + timedelta(hours=int(h))).weekday() for h in time]) < 5).astype(float)
    rate = (20 + 80 * working) * (1 + 0.5 * np.sin(2 * np.pi * time / 24))
    values = np.random.default_rng(12).poisson(np.tile(rate, (20, 1))).astype(np.float64)
    batch = Batch(tuple(map(str, range(20))), start, timedelta(hours=1), values)
    plain = engine.forecast_all(batch, OPTIONS)
    made = engine.forecast_all(batch, Options(HORIZON, country="US"))
    assert made.mean.sum() < 0.8 * plain.mean.sum()
    width = (made.quantiles[4] - made.mean) / made.mean
    assert width.mean() > ((plain.quantiles[4] - plain.mean) / plain.mean).mean()


def test_a_costlier_member_joins_only_where_it_pays() -> None:
    batch = batch_of(drawn(6, 13))
    backtest = backtest_of(batch, HORIZON, 14, 3 * DAY)
    members = FAMILIES["seasonal_naive"].predict(batch, backtest, None)
    actual = backtest.windows(batch.values)
    knows = actual + np.random.default_rng(13).standard_normal(actual.shape)
    half = np.where((np.arange(6) < 3)[:, None, None], knows, actual * 5)
    offered = Prediction(half[:, -1], half)
    blend = costlier.chosen(batch, backtest, members, {"oracle": offered})
    assert (blend.weights[-1, :3] > 0.9).all()
    assert (blend.weights[-1, 3:] == 0).all()
    few = backtest_of(batch, HORIZON, 13, 3 * DAY)
    short = Prediction(offered.mean, half[:, -13:])
    assert (
        costlier.chosen(batch, few, FAMILIES["seasonal_naive"].predict(batch, few, None), {"oracle": short}).weights[-1] == 0
    ).all()


def test_a_level_that_held_too_rarely_is_read_further_up_the_curve() -> None:
    batch = batch_of(drawn(10, 14))
    plain = engine.forecast_all(batch, OPTIONS)
    moved = engine.forecast_all(batch, replace(OPTIONS, levels_used=(*LEVELS[:4], 0.99, 0.995)))
    np.testing.assert_allclose(moved.quantiles[4], plain.quantiles[5], rtol=1e-9)
    assert (moved.quantiles[5] > plain.quantiles[5]).all()
    np.testing.assert_array_equal(moved.quantiles[:4], plain.quantiles[:4])


def test_a_costlier_family_is_fitted_to_the_series_that_were_named_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of(drawn(8, 15))
    fitted: list[str] = []

    class Oracle:
        name, is_cheap = "oracle", False

        def learn(self, sample: Batch, backtest: Backtest) -> None:
            return None

        def predict(self, few: Batch, backtest: Backtest, learnt: None) -> dict[str, Prediction]:
            fitted.extend(few.ids)
            actual = backtest.windows(few.values)
            return {"oracle": Prediction(actual[:, -1], actual * 1.001)}

    monkeypatch.setattr(engine, "FAMILIES", {**FAMILIES, "oracle": Oracle()})
    monkeypatch.setattr(costlier, "FAMILIES", engine.FAMILIES)
    options = replace(OPTIONS, families=(*OPTIONS.families, "oracle"), tried=frozenset({"s2", "s5"}))
    made = engine.forecast_all(batch, options)
    assert sorted(fitted) == ["s2", "s5"]
    assert [i for i, model in enumerate(made.model) if "oracle" in model] == [2, 5]
    plain = engine.forecast_all(batch, OPTIONS)
    others = [0, 1, 3, 4, 6, 7]
    np.testing.assert_allclose(made.quantiles[:, others], plain.quantiles[:, others], rtol=1e-6)
