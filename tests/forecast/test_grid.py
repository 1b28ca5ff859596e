"""A long table as one batch on one grid; every table that is none is refused in one sentence that says where and what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import ForeshardError
from foreshard.forecast.batch import Batch
from foreshard.forecast.grid import to_batch, with_regressors

HOUR = timedelta(hours=1)
START = datetime(2024, 3, 4, tzinfo=UTC)


def table(hours: int = 6, unique_id: object = "a", first: str = "2024-03-04", freq: str = "h") -> pd.DataFrame:
    times = pd.date_range(first, periods=hours, freq=freq, tz="UTC")
    return pd.DataFrame({"unique_id": unique_id, "ds": times, "y": np.arange(1.0, hours + 1)})


def batch_of(frame: pd.DataFrame, step: timedelta = HOUR, **more: object) -> Batch:
    return to_batch(frame, step, "loads.parquet", **more)  # type: ignore[arg-type]


@given(st.randoms(use_true_random=False))
def test_rows_in_any_order_give_the_same_batch(random: object) -> None:
    frame = pd.concat([table(8), table(5, "b", "2024-03-04 02:00")])
    order = list(range(len(frame)))
    random.shuffle(order)  # type: ignore[attr-defined]
    made = batch_of(frame.iloc[order])
    assert made.ids == ("a", "b")
    assert (made.start, made.step, made.steps) == (START, HOUR, 8)
    np.testing.assert_array_equal(made.values[0], np.arange(1.0, 9))
    np.testing.assert_array_equal(made.values[1], [np.nan, np.nan, 1, 2, 3, 4, 5, np.nan])


def test_a_gap_is_unknown_in_files_and_zero_where_no_row_means_no_load() -> None:
    frame = pd.concat([table(8).drop(index=[2, 3]), table(4, "late", "2024-03-04 03:00")])
    np.testing.assert_array_equal(batch_of(frame).values[0], [1, 2, np.nan, np.nan, 5, 6, 7, 8])
    made = batch_of(frame, missing="zero").values
    np.testing.assert_array_equal(made[0], [1, 2, 0, 0, 5, 6, 7, 8])
    np.testing.assert_array_equal(made[1], [np.nan, np.nan, np.nan, 1, 2, 3, 4, 0], "before its first row a series is unknown")


def test_the_history_ends_where_it_is_said_to() -> None:
    frame = table(6)
    assert batch_of(frame, end=START + 8 * HOUR, missing="zero").values[0].tolist() == [1, 2, 3, 4, 5, 6, 0, 0]
    assert batch_of(frame, end=START + 3 * HOUR).values[0].tolist() == [1, 2, 3]
    with pytest.raises(ForeshardError, match=r"loads.parquet has no rows before 2024-03-04"):
        batch_of(frame, end=START)


def test_an_empty_y_is_unknown_and_an_infinite_one_is_kept_for_hygiene() -> None:
    frame = table(4).assign(y=[1.0, None, np.inf, 4.0])
    np.testing.assert_array_equal(batch_of(frame).values[0], [1, np.nan, np.inf, 4])
    texts = table(3).assign(y=["1.5", None, "2"])
    np.testing.assert_array_equal(batch_of(texts).values[0], [1.5, np.nan, 2])


def test_numbers_as_ids_are_texts() -> None:
    assert batch_of(pd.concat([table(3, 7), table(3, 10)])).ids == ("10", "7")


@pytest.mark.parametrize(
    "column",
    [
        lambda t: t.dt.tz_convert("America/New_York"),
        lambda t: t.dt.tz_localize(None),
        lambda t: t.map(lambda x: x.isoformat()),
        lambda t: t.map(lambda x: x.tz_convert("Asia/Kolkata").isoformat()),
        lambda t: t.dt.tz_localize(None).astype(str),
        lambda t: t.dt.tz_localize(None).astype("datetime64[us]"),
        lambda t: t.astype(object),
    ],
)
def test_times_are_converted_to_utc(column: object) -> None:
    frame = table(6)
    made = batch_of(frame.assign(ds=column(frame["ds"])))  # type: ignore[operator]
    assert made.start == START
    assert made.values[0].tolist() == [1, 2, 3, 4, 5, 6]


def test_local_times_over_a_clock_change_with_their_zone_are_whole() -> None:
    times = pd.date_range("2024-03-30", periods=72, freq="h", tz="UTC").tz_convert("Europe/Berlin")
    frame = pd.DataFrame({"unique_id": "a", "ds": times, "y": 1.0})
    made = batch_of(frame)
    assert np.isfinite(made.values).all()
    assert made.steps == 72
    # The day has 23 hours, which naive times in their zone show too.
    naive = frame.assign(ds=frame["ds"].dt.tz_localize(None))
    assert batch_of(naive, zone="Europe/Berlin").values.tolist() == made.values.tolist()


def test_naive_local_times_that_a_clock_change_repeats_or_skips_are_refused() -> None:
    autumn = pd.date_range("2024-10-26", periods=72, freq="h", tz="UTC").tz_convert("Europe/Berlin").tz_localize(None)
    frame = pd.DataFrame({"unique_id": "a", "ds": autumn, "y": 1.0})
    with pytest.raises(
        ForeshardError, match=r"row 25: 2024-10-27 02:00:00 comes twice or never in Europe/Berlin.*give the times in UTC"
    ):
        batch_of(frame, zone="Europe/Berlin")
    with pytest.raises(ForeshardError, match=r"series a: 2024-10-27 02:00:00 UTC stands twice.*if they are local ones"):
        batch_of(frame)
    spring = table(24, first="2024-03-31")
    with pytest.raises(ForeshardError, match=r"2024-03-31 02:00:00 comes twice or never in Europe/Berlin"):
        batch_of(spring.assign(ds=spring["ds"].dt.tz_localize(None)), zone="Europe/Berlin")


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (table().drop(columns="y"), "loads.parquet lacks the columns y; it has unique_id, ds"),
        (pd.DataFrame(), "loads.parquet lacks the columns unique_id, ds, y; it has none"),
        (table().head(0), "loads.parquet has no rows"),
        (table().assign(unique_id=["a", None, "a", "a", "a", "a"]), "row 2: unique_id is empty; name the series"),
        (table().assign(ds="soon"), "row 1: ds 'soon' is not a time"),
        (table().assign(ds=[*table()["ds"][:5], pd.NaT]), "row 6: ds NaT is not a time"),
        (table().assign(ds=range(6)), "row 1: ds .*0.* is not a time"),
        (
            table(3).assign(ds=["2024-03-04T00:00Z", "2024-03-04T01:00", "2024-03-04T02:00Z"]),
            "row 2: ds '2024-03-04T01:00' is not a time",
        ),
        (table().assign(y=["1", "2", "many", "4", "5", "6"]), "row 3: y 'many' is not a number; leave it empty"),
        (table().assign(y=[1, 2, 3, -4, 5, 6]), "row 4: y is -4, and a load is never below zero"),
        (pd.concat([table(), table().tail(2)]), "series a: 2024-03-04 04:00:00 UTC stands twice; add up or drop"),
        (
            pd.concat([table(), table(5, freq="15min", first="2024-03-05")]),
            "03-05 00:15:00 UTC is not a whole number of steps of 01:00:00",
        ),
        (
            pd.concat([table(), table(3, "b", "2024-03-04 00:30")]),
            "series b: 2024-03-04 00:30:00 UTC is not a whole number of steps",
        ),
        (
            pd.concat([table(), table(5, "b", freq="2h")]),
            "series b has a row every 02:00:00 at most, not every 01:00:00; give series of",
        ),
        (
            pd.concat([table(), table(3, "b", "1700-01-01"), table(3, "c", "2250-01-01")]),
            r"spans 1700-01-01 .* remove stray dates",
        ),
    ],
)
def test_a_table_that_is_none_is_refused_in_one_sentence(
    frame: pd.DataFrame, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foreshard.forecast.grid.MOST_CELLS", 10_000)
    with pytest.raises(ForeshardError, match=words) as caught:
        batch_of(frame)
    assert "\n" not in str(caught.value)


def test_a_sparse_series_is_not_coarse_where_no_row_means_no_load() -> None:
    made = batch_of(pd.concat([table(9), table(5, "b", freq="2h")]), missing="zero")
    assert made.values[1].tolist() == [1, 0, 2, 0, 3, 0, 4, 0, 5]


@pytest.mark.parametrize("step", [timedelta(0), -HOUR])
def test_a_step_that_is_none_is_refused(step: timedelta) -> None:
    with pytest.raises(ForeshardError, match=r"a step of .* is none"):
        batch_of(table(), step)


def test_an_unknown_zone_is_refused() -> None:
    frame = table()
    with pytest.raises(ForeshardError, match="unknown time zone 'Mars/Base'"):
        batch_of(frame.assign(ds=frame["ds"].dt.tz_localize(None)), zone="Mars/Base")


def regressors(hours: int, **columns: object) -> pd.DataFrame:
    times = pd.date_range("2024-03-04", periods=hours, freq="h", tz="UTC")
    return pd.DataFrame({"ds": times, "price": np.arange(float(hours))}).assign(**columns)  # type: ignore[arg-type]


def test_regressors_reach_over_history_and_horizon() -> None:
    batch = batch_of(pd.concat([table(6), table(4, "b", "2024-03-04 02:00")]))
    made = with_regressors(batch, regressors(12), ["price"], 3, "prices.csv")
    assert made.regressors["price"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    own = pd.concat([regressors(9, unique_id="a"), regressors(9, unique_id="b").tail(7), regressors(2, unique_id="other")])
    both = with_regressors(batch, own, ["price"], 3, "prices.csv").regressors["price"]
    assert both.shape == (2, 9)
    np.testing.assert_array_equal(
        both[1], [np.nan, np.nan, 2, 3, 4, 5, 6, 7, 8], "before a series begins nothing need be known"
    )


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (regressors(8), r"the regressor price is missing at 2024-03-04 08:00\+00:00, in the horizon; give it for every step"),
        (regressors(9).drop(index=2), r"price is missing at 2024-03-04 02:00\+00:00, in the history"),
        (regressors(9, price=[0, 1, 2, 3, 4, 5, 6, np.inf, 8]), r"price is missing at 2024-03-04 07:00\+00:00, in the horizon"),
        (regressors(9, unique_id="b"), "price is missing for series a at 2024-03-04 00:00"),
        (regressors(9).drop(columns="price"), "prices.csv lacks the columns price"),
    ],
)
def test_a_regressor_that_is_missing_is_refused(frame: pd.DataFrame, words: str) -> None:
    with pytest.raises(ForeshardError, match=words):
        with_regressors(batch_of(table(6)), frame, ["price"], 3, "prices.csv")
