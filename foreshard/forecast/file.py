"""Forecasts of series in a Parquet file, by the same engine as the fleet's and without Spark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from foreshard.errors import ForeshardError
from foreshard.forecast import engine
from foreshard.forecast.batch import LEVELS, Batch
from foreshard.forecast.engine import Fleet, Forecasts, Options
from foreshard.forecast.grid import to_batch

# Fewer series that end at one time say too little of a fleet by themselves.
_LEAST_FLEET = 50


@dataclass(frozen=True)
class Asked:
    """What is asked of a file: `horizon` in steps; `models`: families by name, all cheap ones if empty; `zone`: of times
    without an offset, and of holidays and events; `events`: a CSV file."""

    step: timedelta
    horizon: int
    models: tuple[str, ...] = ()
    country: str = ""
    zone: str = "UTC"
    events: Path | None = None
    seed: int = 0

    def options(self) -> Options:
        """Raises ForeshardError for models that there are not and events that cannot be read."""
        return engine.options_of(self.horizon, self.models, self.country, self.zone, self.events, self.seed)


def forecast_file(source: Path, target: Path, asked: Asked) -> dict[str, int]:
    """Writes `unique_id, ds, model, mean, q05 … q99`, one row per series and step; returns how many series have each fallback
    ('' for none).

    Each series is forecast from its own end. Raises ForeshardError for what cannot be read, for missing columns, and for times
    and loads that `grid.to_batch` refuses.
    """
    options = asked.options()
    frame = _read(source)
    parts, fallbacks = [], dict[str, int]()
    for batch, made in _forecasts(_by_end(frame, asked, str(source)), options):
        parts.append(_rows(batch, made))
        for reason in made.fallback_reason:
            fallbacks[reason] = fallbacks.get(reason, 0) + 1
    rows = pd.concat(parts).sort_values(["unique_id", "ds"], kind="stable", ignore_index=True)
    try:
        rows.to_parquet(target, index=False)
    except OSError as error:
        raise ForeshardError(f"cannot write the forecast {target}: {error}") from None
    return fallbacks


def _read(source: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(source)
    except (OSError, pa.ArrowInvalid) as error:
        raise ForeshardError(f"cannot read the series {source}: {error}") from None


def _by_end(frame: pd.DataFrame, asked: Asked, where: str) -> list[Batch]:
    """The series that end together as a batch each, the largest batch first."""
    if not {"unique_id", "ds"} <= set(frame.columns) or frame.empty:
        return [to_batch(frame, asked.step, where, zone=asked.zone)]  # says what is wrong
    times = pd.to_datetime(frame["ds"], errors="coerce", utc=True, format="ISO8601")
    ends = times.groupby(frame["unique_id"].astype(str)).transform("max")
    if times.isna().any() or ends.nunique() == 1:
        return [to_batch(frame, asked.step, where, zone=asked.zone)]
    batches = [to_batch(own, asked.step, where, zone=asked.zone) for _, own in frame.groupby(ends, sort=True)]
    return sorted(batches, key=lambda batch: (-len(batch), batch.origin))


def _forecasts(batches: list[Batch], options: Options) -> Iterator[tuple[Batch, Forecasts]]:
    """A batch too small to be a fleet has what the largest one taught."""
    largest: Fleet | None = None
    for batch in batches:
        if largest is None or len(batch) >= _LEAST_FLEET:
            yield batch, engine.forecast_all(batch, options)
            if largest is None and len(batches) > 1:
                largest = engine.learn(batch, options)
        else:
            fleet = replace(largest, outages=np.zeros(batch.steps, dtype=bool))
            yield batch, engine.forecast(batch, fleet, options)


def _rows(batch: Batch, made: Forecasts) -> pd.DataFrame:
    horizon = made.mean.shape[1]
    times = pd.date_range(batch.origin.replace(tzinfo=None), periods=horizon, freq=batch.step)
    columns = {
        "unique_id": np.repeat(np.asarray(batch.ids, dtype=object), horizon),
        "ds": np.tile(times.to_numpy(), len(batch)),
        "model": np.repeat(np.asarray(made.model, dtype=object), horizon),
        "mean": made.mean.ravel(),
    }
    columns |= {f"q{round(level * 100):02d}": made.quantiles[number].ravel() for number, level in enumerate(LEVELS)}
    rows = pd.DataFrame(columns)
    return rows.assign(ds=pd.DatetimeIndex(rows["ds"]).tz_localize("UTC"))
