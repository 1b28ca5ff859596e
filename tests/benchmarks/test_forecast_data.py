"""The series that the forecast benchmark judges on, and that nobody sees what is to come."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import forecast_data as sets
from benchmarks import forecast_rivals as rivals
from benchmarks.forecast import compete

START = datetime(2024, 5, 1, tzinfo=UTC)


def _trace(folder: Path, days: int, interval: int = 60) -> Path:
    """Two entities with a request a minute, of which one sleeps from the second day on; the first hour is half missing."""
    minutes = np.arange(30, days * 24 * 60)
    awake, asleep = minutes, minutes[minutes < 24 * 60]
    ts = [START + timedelta(minutes=int(m)) for m in np.concatenate([awake, asleep])]
    names = ["awake"] * len(awake) + ["asleep"] * len(asleep)
    columns = {"ts": pa.array(ts, pa.timestamp("us", tz="UTC")), "entity_id": names, "requests": [1.0] * len(ts)}
    pq.write_table(pa.table(columns), folder / "trace.parquet")
    end = START + timedelta(days=days)
    about = {"interval_seconds": interval, "start": START.isoformat(), "end": end.isoformat(), "country": "US"}
    (folder / "trace.json").write_text(json.dumps(about), "utf-8")
    return folder


def test_a_trace_is_summed_by_hour_and_what_is_missing_is_zero(tmp_path: Path) -> None:
    found = sets.trace(_trace(tmp_path, 14))
    by_name = dict(zip(found.ids, found.values, strict=True))
    assert by_name["awake"][:3].tolist() == [30.0, 60.0, 60.0]
    assert by_name["asleep"][24:].sum() == 0.0
    assert (found.context, found.horizon, found.country) == (240, 24, "US")
    assert found.origins == (240, 264, 288, 312)


def test_a_finer_grain_keeps_the_spans(tmp_path: Path) -> None:
    found = sets.trace(_trace(tmp_path, 14), timedelta(minutes=15))
    assert found.values.shape == (2, 14 * 96)
    assert (found.context, found.horizon, found.day) == (960, 96, 96)


def test_a_trace_too_short_to_forecast_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(sets.NoData, match=r"spans 3 days"):
        sets.trace(_trace(tmp_path, 3))


def test_a_key_that_slept_or_never_changed_is_no_scale(tmp_path: Path) -> None:
    found = sets.trace(_trace(tmp_path, 14))
    first, _ = next(found.tasks())
    counted = dict(zip(found.ids, found.counted(first), strict=True))
    assert counted == {"awake": True, "asleep": False}


def test_what_a_contestant_sees_ends_where_the_outcome_begins_and_is_its_own_copy() -> None:
    drawn = sets.drawn(5)
    for (batch, actual), origin in zip(drawn.tasks(), drawn.origins, strict=True):
        assert batch.steps == drawn.context
        assert batch.origin == drawn.start + drawn.step * origin
        assert np.array_equal(actual, drawn.values[:, origin : origin + drawn.horizon])
        batch.values[:] = np.nan
    assert np.isfinite(drawn.values).all()


@pytest.mark.parametrize("series", [1, 39, 150, 900])
def test_origins_lie_apart_within_the_span(series: int) -> None:
    origins = sets.spread(504, 1440, 24, series)
    assert origins[0] == 504
    assert origins[-1] == 1440
    assert 6 <= len(origins) <= 12
    assert min(np.diff(origins)) >= 24
    assert sets.spread(240, 239, 24, series) == ()


def test_the_drawn_set_is_the_same_each_time() -> None:
    assert np.array_equal(sets.drawn(7).values, sets.drawn(7).values)


def test_the_naives_compete_and_one_that_breaks_is_named_and_ends_nothing() -> None:
    def broken(*_: object) -> rivals.Forecast:
        raise ValueError("no luck")

    drawn = sets.drawn(30)
    results, skipped, failed = compete(drawn, [*rivals.naives(), rivals.Contestant("unlucky", broken)], 1.0)
    assert failed == ["unlucky: ValueError: no luck"]
    assert skipped == 0
    daily = results["seasonal naive, 24 h"]
    assert daily.forecasts == 30 * len(drawn.origins)
    assert 0.5 < daily.scores.mase.mean() < 1.5
    assert 0.85 < daily.scores.hits[1].mean() < 1.0


def test_what_fits_one_at_a_time_stops_when_its_time_is_up_and_passes_over_what_fails() -> None:
    def single(values: np.ndarray, past: object, future: object, seed: int) -> tuple[np.ndarray, np.ndarray]:
        if seed == 1:
            raise RuntimeError("does not converge")
        return np.full(24, values[-1]), np.full((3, 24), values[-1])

    batch, _ = next(sets.drawn(10).tasks())
    made = rivals.one_by_one("last value", single, 4).run(batch, 24, "", 60.0)
    assert np.isfinite(made.mean).all(axis=1).tolist() == [True, False, True, True] + [False] * 6
    assert (made.tried, made.failed) == (4, 1)
    assert rivals.one_by_one("last value", single, 4).run(batch, 24, "", -1.0).tried == 1
