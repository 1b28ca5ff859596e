"""The series that forecasts are judged on: M4 hourly, traces, or drawn ones; rolling origins, what comes after kept apart.

A set's series are in the order of their ids' hashes, so that "the first 60" is a fixed sample of no particular kind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from benchmarks import forecast_metrics as metrics
from foreshard.forecast.batch import DAY, Batch, Floats

HOUR = timedelta(hours=1)
CONTEXTS = (timedelta(days=21), timedelta(days=10))  # the longest that leaves room for two origins is taken
HORIZON = DAY
M4_ORIGINS = (168, 96, 24)  # hours before the end
LEAST_MEAN = 1.0  # requests an hour: what is less needs no forecast of its own
MOST_SERIES = 300
LEAST_DAYS = 0.9  # of a context with load: the change of a key that slept is no scale for one awake
LEAST_SERIES = 20  # fewer say too little about a method; such a trace takes part only when it is named
FORECASTS = 1200  # about so many a set: few series get more origins


class NoData(Exception):
    """A file or folder that cannot be used; one sentence."""


@dataclass(frozen=True)
class DataSet:
    """Values of whole series, and the origins at which they are forecast.

    `values`: shape (series, steps). `origins`: steps; the forecast at one sees the `context` steps before it alone.
    """

    name: str
    ids: tuple[str, ...]
    start: datetime
    step: timedelta
    values: Floats
    context: int
    horizon: int
    origins: tuple[int, ...]
    country: str = ""
    least_days: float = 0.0

    @property
    def day(self) -> int:
        return int(DAY / self.step)

    def tasks(self) -> Iterator[tuple[Batch, Floats]]:
        """For each origin what a contestant sees, and what came then, shape (series, horizon)."""
        for origin in self.origins:
            begin = origin - self.context
            seen = self.values[:, begin:origin].copy()
            yield (
                Batch(self.ids, self.start + self.step * begin, self.step, seen),
                self.values[:, origin : origin + self.horizon],
            )

    def first(self, count: int, origins: int) -> DataSet:
        """The first series and the last origins alone: for a quick look."""
        values, ids = self.values[:count], self.ids[:count]
        kept = self.origins[-origins:]
        return replace(self, ids=ids, values=values, origins=kept)

    def counted(self, batch: Batch) -> npt.NDArray[np.bool_]:
        """The series whose context can be a scale, shape (series,): it changes, and has load on `least_days` of its days."""
        whole = batch.steps // self.day * self.day
        days = batch.values[:, batch.steps - whole :].reshape(len(batch), -1, self.day)
        counted: npt.NDArray[np.bool_] = (days > 0).any(axis=2).mean(axis=1) >= self.least_days
        return counted & (metrics.seasonal_scale(batch.values, self.day) > 0)


def m4_hourly(path: Path) -> DataSet:
    """The competition's hourly series from a Parquet file `unique_id, ds, y`: 504 h of context, three origins."""
    try:
        frame = pq.read_table(path, columns=["unique_id", "ds", "y"]).to_pandas()
    except (OSError, ValueError) as error:
        raise NoData(f"{path} is no Parquet file with unique_id, ds and y: {error}") from error
    kept = 21 * 24 + max(M4_ORIGINS)
    frame = frame.sort_values(["unique_id", "ds"]).groupby("unique_id").tail(kept)
    sizes = frame.groupby("unique_id").size()
    ids = tuple(i for i in sizes.index if sizes[i] == kept)
    values = frame[frame["unique_id"].isin(ids)]["y"].to_numpy(dtype=np.float64).reshape(len(ids), kept)
    start = frame["ds"].max().to_pydatetime().replace(tzinfo=UTC) - HOUR * (kept - 1)
    ids, values = _by_hash(ids, values)
    origins = tuple(kept - before for before in M4_ORIGINS)
    return DataSet("m4_hourly", ids, start, HOUR, values, 21 * 24, 24, origins)


def trace(folder: Path, grain: timedelta = HOUR) -> DataSet:
    """A trace summed to `grain` (its own interval if that is longer) by entity; what is missing is zero."""
    about = json.loads((folder / "trace.json").read_text("utf-8"))
    step = max(grain, timedelta(seconds=about["interval_seconds"]))
    start = _next_multiple(datetime.fromisoformat(about["start"]), step)
    steps = (datetime.fromisoformat(about["end"]) - start) // step
    ids, values = _summed(folder / "trace.parquet", start, step, steps)
    busy = values.mean(axis=1) / (step / HOUR) >= LEAST_MEAN
    ids, values = _by_hash(tuple(i for i, is_busy in zip(ids, busy, strict=True) if is_busy), values[busy])
    ids, values = ids[:MOST_SERIES], values[:MOST_SERIES]
    horizon = HORIZON // step
    for span in CONTEXTS:
        context = span // step
        origins = spread(context, steps - horizon, horizon, len(ids))
        if len(origins) > 1 or (origins and span == CONTEXTS[-1]):
            country = about.get("country") or ""
            return DataSet(folder.name, ids, start, step, values, context, horizon, origins, country, LEAST_DAYS)
    raise NoData(f"{folder.name} spans {steps * step}, less than {CONTEXTS[-1].days} days of context and one to forecast")


def spread(first: int, last: int, apart: int, series: int) -> tuple[int, ...]:
    """Origins from `first` to `last`, evenly, at least `apart`: 6 to 12, the more the fewer the series are."""
    if last < first:
        return ()
    wanted = int(np.clip(FORECASTS // max(series, 1), 6, 12))
    count = min(wanted, (last - first) // apart + 1)
    return tuple(last - (last - first) * (count - 1 - i) // max(count - 1, 1) for i in range(count))


def drawn(series: int = 120, seed: int = 0) -> DataSet:
    """Counts with daily and weekly cycles, trends, bursts and shifts of level, for a checkout without data."""
    generator = np.random.default_rng(seed)
    steps = 21 * 24 + max(M4_ORIGINS)
    hours = np.arange(steps)
    size = np.exp(generator.uniform(1.0, 8.0, (series, 1)))
    phase = generator.integers(0, 24, (series, 1))
    daily = generator.uniform(0.1, 0.9, (series, 1)) * np.sin(2 * np.pi * (hours + phase) / 24)
    half = generator.uniform(0.0, 0.4, (series, 1)) * np.sin(4 * np.pi * (hours + phase) / 24 + 1.0)
    weekend = 1.0 - generator.uniform(0.0, 0.6, (series, 1)) * ((hours + phase) // 24 % 7 >= 5)
    trend = np.exp(generator.normal(0.0, 0.3, (series, 1)) * (hours / steps - 0.5))
    noise = generator.normal(0.0, 0.02, (series, steps)).cumsum(axis=1)
    level = noise - 0.1 * noise.mean(axis=1, keepdims=True)
    bursts = 1.0 + (generator.random((series, steps)) < 0.003) * generator.pareto(2.0, (series, steps))
    expected = size * np.exp(daily + half + 0.3 * level) * weekend * trend * bursts
    spread_of_counts = generator.uniform(5.0, 100.0, (series, 1))
    values = generator.poisson(expected * generator.gamma(spread_of_counts, 1.0 / spread_of_counts, (series, steps)))
    ids = tuple(f"drawn-{i}" for i in range(series))
    origins = tuple(steps - before for before in M4_ORIGINS)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    return DataSet("drawn", ids, start, HOUR, values.astype(np.float64), 21 * 24, 24, origins)


def _by_hash(ids: tuple[str, ...], values: Floats) -> tuple[tuple[str, ...], Floats]:
    order = sorted(range(len(ids)), key=lambda i: (xxhash.xxh64_intdigest(ids[i].encode("utf-8"), seed=42), ids[i]))
    return tuple(ids[i] for i in order), values[order]


def _next_multiple(moment: datetime, step: timedelta) -> datetime:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return moment + (epoch - moment) % step


def _summed(path: Path, start: datetime, step: timedelta, steps: int) -> tuple[tuple[str, ...], Floats]:
    """Requests of each entity and step, shape (entities, steps)."""
    table = pq.read_table(path, columns=["ts", "entity_id", "requests"])
    entities = pc.dictionary_encode(table["entity_id"]).combine_chunks()
    seconds = pc.cast(table["ts"], pa.timestamp("s", tz="UTC"), safe=False).cast("int64").to_numpy()
    at = (seconds - int(start.timestamp())) // int(step.total_seconds())
    inside = (at >= 0) & (at < steps)
    row = entities.indices.to_numpy()[inside]
    ids = tuple(str(i) for i in entities.dictionary.to_pylist())
    sums = np.bincount(row * steps + at[inside], table["requests"].to_numpy()[inside].astype(np.float64), len(ids) * steps)
    return ids, sums.reshape(len(ids), steps)
