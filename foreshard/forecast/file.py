"""Forecasts of series in a Parquet file, with the same models as the fleet's and without Spark."""

from __future__ import annotations

from datetime import UTC, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa

from foreshard.errors import ForeshardError
from foreshard.forecast import prophet_model, seasonal_naive
from foreshard.forecast.combine import Options, forecast
from foreshard.forecast.series import LEVELS, Series, regular

_MODELS = (prophet_model.NAME, seasonal_naive.NAME)


def forecast_file(
    source: Path, target: Path, step: timedelta, horizon: int, models: tuple[str, ...], country: str, seed: int
) -> int:
    """Writes `unique_id, ds, model, mean, q05 … q99`, one row per series and step; returns the number of series.

    Raises ForeshardError for an unreadable file, missing columns, unknown models, repeated or off-grid times.
    """
    unknown = [name for name in models if name not in _MODELS]
    if unknown or not models:
        raise ForeshardError(f"unknown models {', '.join(unknown) or '(none named)'}; there are {', '.join(_MODELS)}")
    frame = _read(source)
    parts = []
    for unique_id, own in frame.groupby("unique_id", sort=True):
        series = _series(str(unique_id), own, step)
        made = forecast(series, Options(horizon, country, seed, models))
        rows = {"unique_id": unique_id, "ds": series.times(horizon), "model": made.model, "mean": made.mean}
        quantiles = {f"q{round(level * 100):02d}": made.quantiles[i] for i, level in enumerate(LEVELS)}
        parts.append(pd.DataFrame(rows | quantiles))
    try:
        pd.concat(parts).to_parquet(target, index=False)
    except OSError as error:
        raise ForeshardError(f"cannot write the forecast {target}: {error}") from None
    return len(parts)


def _read(source: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(source)
    except (OSError, pa.ArrowInvalid) as error:
        raise ForeshardError(f"cannot read the series {source}: {error}") from None
    missing = [name for name in ("unique_id", "ds", "y") if name not in frame.columns]
    if missing:
        raise ForeshardError(f"{source} lacks the columns {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}")
    if frame.empty:
        raise ForeshardError(f"{source} has no rows")
    times = pd.to_datetime(frame["ds"], errors="coerce", utc=True)
    values = pd.to_numeric(frame["y"], errors="coerce")
    if times.isna().any():
        raise ForeshardError(f"{source}: row {int(times.isna().argmax()) + 1}: ds is not a time")
    return frame.assign(ds=times, y=values)


def _series(unique_id: str, own: pd.DataFrame, step: timedelta) -> Series:
    ordered = own.sort_values("ds")
    if ordered["ds"].duplicated().any():
        raise ForeshardError(f"series {unique_id}: {ordered['ds'][ordered['ds'].duplicated()].iloc[0]} stands twice")
    offsets = (ordered["ds"] - ordered["ds"].iloc[0]) % pd.Timedelta(step)
    if (offsets != pd.Timedelta(0)).any():
        off = ordered["ds"][offsets != pd.Timedelta(0)].iloc[0]
        raise ForeshardError(f"series {unique_id}: {off} is not a whole number of --freq steps after the first time")
    times = [t.to_pydatetime().astimezone(UTC) for t in ordered["ds"]]
    return regular(times, ordered["y"].tolist(), step, times[-1] + step)
