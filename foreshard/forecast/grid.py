"""A long table of series (unique_id, ds, y) as one batch on one grid in UTC; one sentence for a table that is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshard.errors import ForeshardError
from foreshard.forecast.batch import Batch, Floats

COLUMNS = ("unique_id", "ds", "y")
# A stray date makes a grid of decades: more cells than this (4 GB) are taken for a mistake.
MOST_CELLS = 500_000_000

Missing = Literal["unknown", "zero"]


def to_batch(
    frame: pd.DataFrame,
    step: timedelta,
    where: str,
    missing: Missing = "unknown",
    zone: str = "UTC",
    end: datetime | None = None,
) -> Batch:
    """The series of a table with the columns `unique_id, ds, y`, in the order of their ids, from the earliest time to the
    latest.

    Rows may come in any order. `ds`: starts of intervals of `step`; times with an offset are converted to UTC, those without
    are local in `zone`. A series is NaN before its first row; an interval without a row after that is NaN, or 0 if `missing`
    is "zero"; so is one whose `y` is empty, which is NaN. `end`: where the history ends, if not after the last row; rows from
    there on are left out.

    Raises ForeshardError, naming `where`: for missing columns, no rows, an empty id, times that are none, that a clock change
    skips or repeats, that stand twice or lie off the grid, series of a coarser grain (unless a missing row means zero), a `y`
    that is no number or is below zero, and a span that is far too long. Running time: that of sorting the rows.
    """
    if step <= timedelta(0):
        raise ForeshardError(f"{where}: a step of {_words(step)} is none; give an interval such as 1h")
    absent = [name for name in COLUMNS if name not in frame.columns]
    if absent:
        raise ForeshardError(
            f"{where} lacks the columns {', '.join(absent)}; it has {', '.join(map(str, frame.columns)) or 'none'}"
        )
    codes, ids = _ids(frame["unique_id"], where)
    times = _times(frame["ds"], zone, where)
    values = _loads(frame, where)
    if end is not None:
        is_kept = times < np.datetime64(end.astimezone(UTC).replace(tzinfo=None), "us")
        codes, times, values = codes[is_kept], times[is_kept], values[is_kept]
    if not len(times):
        raise ForeshardError(f"{where} has no rows{'' if end is None else f' before {end}'}")
    order = np.lexsort((times, codes))
    codes, times, values = codes[order], times[order], values[order]
    start, offsets, count = _offsets(codes, times, ids, step, end, where)
    if missing == "unknown":
        _refuse_coarser(codes, offsets, ids, step, where)
    return Batch(ids, start, step, _spread(codes, offsets, values, (len(ids), count), missing))


def _ids(column: pd.Series[Any], where: str) -> tuple[npt.NDArray[np.intp], tuple[str, ...]]:
    if not len(column):
        raise ForeshardError(f"{where} has no rows")
    if column.isna().any():
        raise ForeshardError(f"{where}: row {int(column.isna().to_numpy().argmax()) + 1}: unique_id is empty; name the series")
    codes, ids = pd.factorize(column.astype(str), sort=True)
    return np.asarray(codes, dtype=np.intp), tuple(ids)


def _times(column: pd.Series[Any], zone: str, where: str) -> npt.NDArray[np.datetime64]:
    """The times in UTC, as datetime64[us]: nanoseconds would overflow where a stray date is centuries off."""
    times = _parsed(column)
    if times.isna().any():
        row = int(times.isna().to_numpy().argmax())
        raise ForeshardError(f"{where}: row {row + 1}: ds {column.iloc[row]!r} is not a time; write 2024-11-29T18:00:00Z")
    if times.dt.tz is None:
        times = _localized(times, zone, where)
    return np.asarray(times.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(), dtype="datetime64[us]")


def _parsed(column: pd.Series[Any]) -> pd.Series[Any]:
    """The column as times, NaT where it has none: with a zone if the column or its texts have one."""
    if isinstance(column.dtype, pd.DatetimeTZDtype) or np.issubdtype(getattr(column.dtype, "type", object), np.datetime64):
        return column
    if pd.api.types.is_numeric_dtype(column.dtype):
        return pd.Series(pd.NaT, index=column.index)  # seconds, days, row numbers: no telling which
    texts = column.astype("string")
    has_offset = texts.str.contains(r"(?:Z|[+-]\d{2}:?\d{2})$", na=False)
    if has_offset.any():
        # A time without an offset among others with one cannot be placed.
        made = pd.to_datetime(column.where(has_offset), errors="coerce", utc=True, format="ISO8601")
    else:
        made = pd.to_datetime(column, errors="coerce", format="ISO8601")
    return made if isinstance(made, pd.Series) else pd.Series(made)


def _localized(times: pd.Series[Any], zone: str, where: str) -> pd.Series[Any]:
    try:
        local: pd.Series[Any] = times.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    except (KeyError, ValueError, OSError):
        raise ForeshardError(f"unknown time zone {zone!r}; give a name like Europe/Berlin, or UTC") from None
    if local.isna().any():
        row = int(local.isna().to_numpy().argmax())
        raise ForeshardError(
            f"{where}: row {row + 1}: {times.iloc[row]} comes twice or never in {zone}, as a clock is changed then; "
            "give the times in UTC"
        )
    return local


def _loads(frame: pd.DataFrame, where: str) -> Floats:
    values = pd.to_numeric(frame["y"], errors="coerce")
    is_wrong = (values.isna() & frame["y"].notna() & ~frame["y"].astype(str).str.lower().isin(("", "nan", "none"))).to_numpy()
    if is_wrong.any():
        row = int(is_wrong.argmax())
        raise ForeshardError(
            f"{where}: row {row + 1}: y {frame['y'].iloc[row]!r} is not a number; leave it empty if it is unknown"
        )
    loads = values.to_numpy(dtype=np.float64, na_value=np.nan)
    is_negative = loads < 0
    if is_negative.any():
        row = int(is_negative.argmax())
        raise ForeshardError(
            f"{where}: row {row + 1}: y is {loads[row]:g}, and a load is never below zero; leave it empty if it is unknown"
        )
    return loads


def _offsets(
    codes: npt.NDArray[np.intp],
    times: npt.NDArray[np.datetime64],
    ids: tuple[str, ...],
    step: timedelta,
    end: datetime | None,
    where: str,
) -> tuple[datetime, npt.NDArray[np.intp], int]:
    """(start of the grid, the step of each row, steps) for rows in the order of series and time."""
    first = times.min()
    width = np.timedelta64(step // timedelta(microseconds=1), "us")
    since = times - first
    is_off = since % width != np.timedelta64(0, "us")
    if is_off.any():
        i = int(is_off.argmax())
        raise ForeshardError(
            f"{where}: series {ids[codes[i]]}: {_time(times[i])} is not a whole number of steps of {_words(step)} after "
            f"the first time, {_time(first)}; give the step that the series have, or aggregate them to one"
        )
    is_twice = (codes[1:] == codes[:-1]) & (times[1:] == times[:-1])
    if is_twice.any():
        i = int(is_twice.argmax())
        raise ForeshardError(
            f"{where}: series {ids[codes[i]]}: {_time(times[i])} stands twice; add up or drop the repeated rows, and "
            "give times in UTC if they are local ones of a night when a clock was put back"
        )
    offsets = np.asarray(since // width, dtype=np.intp)
    start = pd.Timestamp(first).to_pydatetime().replace(tzinfo=UTC)
    # An end amid an interval leaves that interval in: rows of it are there.
    count = int(offsets.max()) + 1 if end is None else -((start - end) // step)
    if count * len(ids) > MOST_CELLS:
        raise ForeshardError(
            f"{where} spans {_time(first)} to {_time(times.max())}, {count} steps of {_words(step)} for {len(ids)} series; "
            "remove stray dates, cut the history or give a longer step"
        )
    return start, offsets, count


def _refuse_coarser(
    codes: npt.NDArray[np.intp], offsets: npt.NDArray[np.intp], ids: tuple[str, ...], step: timedelta, where: str
) -> None:
    """Series whose rows are all further apart than a step: most of their values would be unknown."""
    is_next = codes[1:] == codes[:-1]
    gaps = np.diff(offsets)[is_next]
    own = codes[1:][is_next]
    smallest = np.full(len(ids), np.iinfo(np.intp).max, dtype=np.intp)
    np.minimum.at(smallest, own, gaps)
    is_coarse = (smallest > 1) & (np.bincount(own, minlength=len(ids)) >= 3)
    if is_coarse.any():
        i = int(is_coarse.argmax())
        raise ForeshardError(
            f"{where}: series {ids[i]} has a row every {_words(step * int(smallest[i]))} at most, not every {_words(step)}; "
            "give series of one grain, and their own step"
        )


def _spread(
    codes: npt.NDArray[np.intp], offsets: npt.NDArray[np.intp], loads: Floats, shape: tuple[int, int], missing: Missing
) -> Floats:
    values = np.full(shape, np.nan)
    if missing == "zero":
        begins = np.full(shape[0], shape[1], dtype=np.intp)
        np.minimum.at(begins, codes, offsets)
        values[np.arange(shape[1]) >= begins[:, None]] = 0.0
    values[codes, offsets] = loads
    return values


def with_regressors(
    batch: Batch, frame: pd.DataFrame, names: Sequence[str], horizon: int, where: str, zone: str = "UTC"
) -> Batch:
    """The batch with regressors from a table with the columns `ds`, `names` and, if they differ between series, `unique_id`.

    Raises ForeshardError for one that is missing at any step of the history (of a series, since its first value) or of the
    horizon after it, or is not finite; rows outside of both, and other series, are left out.
    """
    absent = [name for name in ("ds", *names) if name not in frame.columns]
    if absent:
        raise ForeshardError(
            f"{where} lacks the columns {', '.join(absent)}; regressors have ds, one column each and may have unique_id"
        )
    per_series = "unique_id" in frame.columns
    rows = {unique_id: i for i, unique_id in enumerate(batch.ids)} if per_series else {"": 0}
    codes = frame["unique_id"].astype(str).map(rows).to_numpy(dtype=np.float64) if per_series else np.zeros(len(frame))
    since = _times(frame["ds"], zone, where) - np.datetime64(batch.start.astimezone(UTC).replace(tzinfo=None), "us")
    width = np.timedelta64(batch.step // timedelta(microseconds=1), "us")
    count = batch.steps + horizon
    is_on = np.isfinite(codes) & (since >= np.timedelta64(0)) & (since < width * count) & (since % width == np.timedelta64(0))
    at = (codes[is_on].astype(np.intp), np.asarray(since[is_on] // width, dtype=np.intp))
    # Before a series begins nothing need be known of it.
    is_needed = np.ones((len(rows), count), dtype=bool)
    if per_series:
        is_needed[:, : batch.steps] = np.logical_or.accumulate(np.isfinite(batch.values), axis=1)
    found = {}
    for name in names:
        values = np.full((len(rows), count), np.nan)
        values[at] = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)[is_on]
        is_missing = is_needed & ~np.isfinite(values)
        if is_missing.any():
            row, i = (int(k[0]) for k in np.nonzero(is_missing))
            whose = f" for series {batch.ids[row]}" if per_series else ""
            part = "in the horizon" if i >= batch.steps else "in the history"
            moment = (batch.start + batch.step * i).isoformat(sep=" ", timespec="minutes")
            raise ForeshardError(
                f"{where}: the regressor {name} is missing{whose} at {moment}, {part}; give it for every step, or leave it out"
            )
        found[name] = values if per_series else values[0]
    return replace(batch, regressors={**batch.regressors, **found})


def _time(moment: np.datetime64) -> str:
    return f"{pd.Timestamp(moment).isoformat(sep=' ')} UTC"


def _words(step: timedelta) -> str:
    return str(pd.Timedelta(step)).removeprefix("0 days ")
