"""How well forecasts came true, from `forecast_score` by DuckDB: one pass over the rows, which never come to Python.

Errors and losses are of all intervals, as the load came, outages and all. A share covered is of forecasts that have a spread:
at a shard that is silent, or always the same, every level holds, which says nothing of the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import numpy as np
from deltalake import DeltaTable

from foreshard.errors import ForeshardError
from foreshard.forecast.batch import LEVELS, Floats
from foreshard.lake import log
from foreshard.learning.drift import Day
from foreshard.settings import Settings

QUANTILES = tuple(f"q{round(100 * level):02}" for level in LEVELS)
# Horizons that are shown together: up to and with so many hours, beyond the one before.
BUCKETS = ((1, "up to 1 h"), (6, "1 to 6 h"), (24, "6 to 24 h"))
BEYOND = "beyond 24 h"
WORST = 10
_COLUMNS = ("shard_id", "interval_start", "origin", "model", "horizon_steps", "actual", "mean", *QUANTILES, "naive", "day")
# The heaviest member of a blend such as `0.61 spar+0.39 weekly_mean`; a fallback is named as it is.
_HEAVIEST = (
    "CASE WHEN model LIKE 'fallback: %' THEN model "
    "ELSE regexp_replace(split_part(model, '+', 1), '^[0-9.]+ ', '') END AS heaviest"
)
_SHARD = "CAST(shard_id AS VARCHAR)"
_MEMORY = "1GB"


@dataclass(frozen=True)
class Figures:
    """Of one group of forecasts. Loads, errors and pinball losses are weighted requests per second; one entry a level in
    `pinball`, `covered` and `judged`, which counts the forecasts that `covered` is the share of. None where nothing is known.
    `skill`: 1 − error / `naive_error`, and `scaled_pinball_95`: the loss as a multiple of it, where there is a naive."""

    name: str
    shards: int
    intervals: int
    mean_load: float
    error: float
    naive_error: float | None
    skill: float | None
    scaled_pinball_95: float | None
    pinball: tuple[float | None, ...]
    covered: tuple[float | None, ...]
    judged: tuple[int, ...]

    def at(self, level: float) -> tuple[float | None, float | None, int]:
        """Pinball loss, covered share and number judged at one of LEVELS."""
        place = LEVELS.index(level)
        return self.pinball[place], self.covered[place], self.judged[place]


@dataclass(frozen=True)
class Evaluation:
    """`models`: by the heaviest member of their blends; `horizons`: by BUCKETS; `steps`: by steps ahead, ascending;
    `worst`: the shards with the highest pinball loss at 95 %, the worst first; `busiest`: those with the highest load."""

    first: date
    last: date
    whole: Figures
    models: tuple[Figures, ...]
    horizons: tuple[Figures, ...]
    steps: tuple[Figures, ...]
    worst: tuple[Figures, ...]
    busiest: tuple[Figures, ...]
    days: tuple[Day, ...]


@dataclass(frozen=True)
class ShardScores:
    """What was said of a shard longest before and what came, interval by interval; arrays of shape (intervals,), NaN where
    unknown. `quantiles`: shape (levels, intervals)."""

    shard_id: int
    times: tuple[datetime, ...]
    steps_ahead: tuple[int, ...]
    mean: Floats
    quantiles: Floats
    naive: Floats
    actual: Floats


def stored_scores(settings: Settings, days: int, upto: date | None = None) -> Any:
    """The newest `days` days of `forecast_score` (before `upto`, if given) as an arrow dataset; ForeshardError without any."""
    none = "there are no scores yet; the learn job scores a forecast once its hours are over and aggregated"
    path = settings.table("forecast_score")
    if log.opened(path) is None:
        raise ForeshardError(none)
    table = DeltaTable(path)
    present = sorted({date.fromisoformat(str(part["day"])) for part in table.partitions()})
    present = [day for day in present if upto is None or day < upto]
    chosen = [day.isoformat() for day in present if day > present[-1] - timedelta(days=days)]
    if not chosen:
        raise ForeshardError(none)
    return table.to_pyarrow_dataset(partitions=[("day", "in", chosen)])


def evaluate(stored: Any, grain_minutes: int, worst: int = WORST) -> Evaluation:
    """The figures of scores (an arrow table or dataset with columns of forecast_score); ForeshardError if it has no rows."""
    database = _opened(stored, grain_minutes)
    sets = "(), (heaviest), (bucket), (horizon_steps), (day), (shard_id)"
    database.execute(
        f"CREATE TABLE figures AS SELECT heaviest, bucket, horizon_steps, day, shard_id, {_figures()} FROM score "
        f"GROUP BY GROUPING SETS ({sets})"
    )
    groups = "heaviest, bucket, CAST(horizon_steps AS VARCHAR), CAST(shard_id AS VARCHAR), CAST(day AS VARCHAR)"
    whole = _found(database, "'all'", f"coalesce({groups}) IS NULL")
    if not whole or not whole[0].intervals:
        raise ForeshardError("the scores of these days hold no interval; ask for more days")
    days = _days(database)
    buckets = _found(database, "bucket", "bucket IS NOT NULL")
    order = [name for _, name in BUCKETS] + [BEYOND]
    return Evaluation(
        first=days[0].day,
        last=days[-1].day,
        whole=whole[0],
        models=tuple(_found(database, "heaviest", "heaviest IS NOT NULL", "intervals DESC, heaviest")),
        horizons=tuple(sorted(buckets, key=lambda figures: order.index(figures.name))),
        steps=tuple(_found(database, "CAST(horizon_steps AS VARCHAR)", "horizon_steps IS NOT NULL", "horizon_steps")),
        worst=tuple(
            _found(database, _SHARD, "shard_id IS NOT NULL AND pinball_q95 > 0", f"pinball_q95 DESC, shard_id LIMIT {worst}")
        ),
        busiest=tuple(_found(database, _SHARD, "shard_id IS NOT NULL", f"mean_load DESC, shard_id LIMIT {worst}")),
        days=tuple(days),
    )


def days_of(stored: Any) -> list[Day]:
    """What came true day by day, in order of time."""
    database = _opened(stored, 60)
    database.execute(f"CREATE TABLE figures AS SELECT day, {_figures()} FROM score GROUP BY day")
    return _days(database)


def series_of(stored: Any, shards: Sequence[int], intervals: int) -> list[ShardScores]:
    """The last `intervals` of each of these shards: of several forecasts of an interval the one made longest before."""
    database = _opened(stored, 60)
    quantiles = ", ".join(QUANTILES)
    rows = database.execute(
        f"SELECT shard_id, interval_start, horizon_steps, mean, {quantiles}, naive, actual FROM score "
        "WHERE list_contains($shards, shard_id) "
        "QUALIFY row_number() OVER (PARTITION BY shard_id, interval_start ORDER BY origin) = 1 "
        "ORDER BY shard_id, interval_start",
        {"shards": list(shards)},
    ).fetchall()
    by_shard: dict[int, list[tuple[Any, ...]]] = {}
    for row in rows:
        by_shard.setdefault(row[0], []).append(row)
    return [_series(shard, by_shard[shard][-intervals:]) for shard in shards if shard in by_shard]


def _series(shard: int, rows: list[tuple[Any, ...]]) -> ShardScores:
    values = np.array([[np.nan if v is None else v for v in row[3:]] for row in rows], dtype=np.float64).T
    times, steps = tuple(row[1] for row in rows), tuple(row[2] for row in rows)
    return ShardScores(shard, times, steps, values[0], values[1:-2], values[-2], values[-1])


def _opened(stored: Any, grain_minutes: int) -> duckdb.DuckDBPyConnection:
    """A database with the view `score`: the rows, their errors, and NULL for a column that older tables lack."""
    database = duckdb.connect()
    database.execute(f"SET memory_limit = '{_MEMORY}'")
    database.execute("SET TimeZone = 'UTC'")
    database.register("stored", stored)
    present = set(stored.schema.names)
    columns = ", ".join(name if name in present else f"CAST(NULL AS DOUBLE) AS {name}" for name in _COLUMNS)
    bounds = " ".join(f"WHEN horizon_steps * {grain_minutes} <= {hours * 60} THEN '{name}'" for hours, name in BUCKETS)
    losses = ", ".join(
        f"greatest({level} * (actual - {name}), {level - 1} * (actual - {name})) AS loss_{name}"
        for level, name in zip(LEVELS, QUANTILES, strict=True)
    )
    database.execute(
        f"CREATE VIEW score AS SELECT *, {_HEAVIEST}, CASE {bounds} ELSE '{BEYOND}' END AS bucket, {losses}, "
        "abs(actual - mean) AS error, abs(actual - naive) AS naive_error, "
        # Scores of before there was a median: then the mean stands for it.
        "coalesce(q99, q95) > coalesce(q50, mean) AS has_spread "
        f"FROM (SELECT {columns} FROM stored)"
    )
    return database


def _figures() -> str:
    """The aggregates of `Figures` and `Day`, as columns."""
    levels = ", ".join(
        f"avg(loss_{name}) FILTER ({name} IS NOT NULL) AS pinball_{name}, "
        f"avg(CASE WHEN actual <= {name} THEN 1.0 ELSE 0.0 END) FILTER (has_spread AND {name} IS NOT NULL) AS covered_{name}, "
        f"count(*) FILTER (has_spread AND {name} IS NOT NULL) AS judged_{name}"
        for name in QUANTILES
    )
    return (
        "count(DISTINCT shard_id) AS shards, count(*) AS intervals, avg(actual) AS mean_load, avg(error) AS error, "
        "coalesce(sum(error) FILTER (naive IS NOT NULL), 0) AS error_beside, coalesce(sum(naive_error), 0) AS naive_error, "
        "avg(naive_error) AS mean_naive_error, "
        f"coalesce(sum(loss_q95) FILTER (naive IS NOT NULL), 0) AS loss_beside, {levels}"
    )


def _each(prefix: str) -> str:
    return ", ".join(f"{prefix}_{name}" for name in QUANTILES)


def _found(database: duckdb.DuckDBPyConnection, name: str, where: str, order: str = "intervals DESC") -> list[Figures]:
    rows = database.execute(
        f"SELECT {name}, shards, intervals, mean_load, error, error_beside, naive_error, mean_naive_error, loss_beside, "
        f"{_each('pinball')}, {_each('covered')}, {_each('judged')} FROM figures WHERE {where} ORDER BY {order}"
    ).fetchall()
    count = len(LEVELS)
    found = []
    for named, shards, intervals, load, error, beside, naive, mean_naive, loss, *rest in rows:
        skill, scaled = (1 - beside / naive, loss / naive) if naive and naive > 0 else (None, None)
        levels = (tuple(rest[:count]), tuple(rest[count : 2 * count]), tuple(rest[2 * count :]))
        found.append(Figures(named, shards, intervals, load, error, mean_naive, skill, scaled, *levels))
    return found


def _days(database: duckdb.DuckDBPyConnection) -> list[Day]:
    rows: Iterable[tuple[Any, ...]] = database.execute(
        f"SELECT day, judged_q95, error_beside, naive_error, {_each('covered')} FROM figures WHERE day IS NOT NULL ORDER BY day"
    ).fetchall()
    return [Day(day, judged, tuple(covered), error, naive) for day, judged, error, naive, *covered in rows]
