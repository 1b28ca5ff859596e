"""What the demo's tables and the hours after it say: counts, the forecast beside what came, loads under both layouts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from foreshard.demo import flights
from foreshard.demo.departures import read_departures
from foreshard.demo.lookups import LookupDraw, hours_between, thanksgiving_spell
from foreshard.demo.measures import Floats, forecast_quality
from foreshard.demo.pictures import ShardForecast
from foreshard.demo.report import ForecastQuality, Intake
from foreshard.model import Layout, Node
from foreshard.settings import Settings

_SEED = 2013
_HISTORY_HOURS = 96
_SHOWN_SHARDS = 4


def _rows_of(settings: Settings, table: str, sql: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """Rows of a statement over one Delta table, named `rows` in it; none if there is no such table."""
    try:
        dataset = DeltaTable(settings.table(table)).to_pyarrow_dataset()
    except TableNotFoundError:
        return []
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    database.register("rows", dataset)
    found: list[tuple[Any, ...]] = database.execute(sql, parameters or {}).fetchall()
    return found


def intake(settings: Settings) -> Intake:
    """Counts of what has landed and what became of it."""
    landed = [
        path for table in ("usage_record", "query_record") for path in Path(settings.landing_folder(table)).glob("*/*.jsonl")
    ]
    lines = sum(path.read_bytes().count(b"\n") for path in landed)
    usage = int(_rows_of(settings, "usage_record", "SELECT count(*) FROM rows")[0][0])
    queries = int(_rows_of(settings, "query_record", "SELECT count(*) FROM rows")[0][0])
    reasons = _rows_of(
        settings, "quarantine", "SELECT split_part(reason, ':', 1), count(*) FROM rows GROUP BY ALL ORDER BY ALL"
    )
    refused = {str(reason): int(count) for reason, count in reasons}
    return Intake(len(landed), usage, queries, lines - usage - queries - sum(refused.values()), refused)


@dataclass(frozen=True)
class ForecastEvidence:
    """The newest forecast beside what came after it; arrays of shape (shards, hours), weighted requests per second."""

    origin: datetime
    times: list[datetime]
    mean: Floats
    q05: Floats
    q95: Floats
    naive: Floats
    actual: Floats
    models: dict[str, int]

    def quality(self) -> ForecastQuality:
        return forecast_quality(self.origin, self.models, self.mean, self.q95, self.naive, self.actual)


def forecast_evidence(settings: Settings, origin: datetime, layout: Layout, nodes: tuple[Node, ...]) -> ForecastEvidence:
    """The forecast made at `origin`; what came is drawn as the hours' landing files will be, which nobody has seen yet."""
    rows = _rows_of(
        settings,
        "load_forecast",
        "SELECT shard_id, interval_start, mean, q05, q95, model FROM rows WHERE origin = $origin ORDER BY 1, 2",
        {"origin": origin},
    )
    hours = len(rows) // settings.slots
    figures = np.array([row[2:5] for row in rows], dtype=np.float64).reshape(settings.slots, hours, 3)
    kinds = Counter(_kind(row[5]) for row in rows[::hours])
    return ForecastEvidence(
        origin=origin,
        times=[origin + timedelta(hours=h) for h in range(hours)],
        mean=figures[:, :, 0],
        q05=figures[:, :, 1],
        q95=figures[:, :, 2],
        naive=past_load(settings, origin - timedelta(days=7), hours),
        actual=load_to_come(settings, origin, hours, layout, nodes),
        models=dict(kinds),
    )


def _kind(model: str) -> str:
    """The heaviest member of a shard's model, or that it has a fallback."""
    return "a fallback" if model.startswith("fallback") else model.split("+", 1)[0].split(" ", 1)[-1]


def past_load(settings: Settings, start: datetime, hours: int) -> Floats:
    """Requests per second per slot and hour from `query_load`, shape (slots, hours)."""
    rows = _rows_of(
        settings,
        "query_load",
        "SELECT slot, interval_start, sum(load) / 3600 FROM rows WHERE interval_start >= $start AND interval_start < $end "
        "GROUP BY ALL",
        {"start": start, "end": start + timedelta(hours=hours)},
    )
    load = np.zeros((settings.slots, hours))
    for slot, moment, rate in rows:
        load[slot, int((moment.astimezone(start.tzinfo) - start) / timedelta(hours=1))] = float(rate)
    return load


def load_to_come(settings: Settings, start: datetime, hours: int, layout: Layout, nodes: tuple[Node, ...]) -> Floats:
    """Requests per second per slot of the hours from `start` on, drawn as they will land; shape (slots, hours)."""
    departures = read_departures()
    hot = thanksgiving_spell(departures, flights.HOT_EVENINGS, flights.HOT_PER_HOUR)
    draw = LookupDraw(departures, hot, layout, nodes, settings.slot_bits, _SEED)
    counts = [
        np.bincount(draw.slot_of(draw.hour(hour).departure), minlength=settings.slots)
        for hour in hours_between(start, start + timedelta(hours=hours))
    ]
    load: Floats = np.array(counts, dtype=np.float64).T / 3600.0
    return load


def busiest(settings: Settings, evidence: ForecastEvidence) -> list[ShardForecast]:
    """The shards with the most load to come, with their history, for the picture."""
    first = evidence.origin - timedelta(hours=_HISTORY_HOURS)
    history = past_load(settings, first, _HISTORY_HOURS)
    times = [first + timedelta(hours=h) for h in range(_HISTORY_HOURS)]
    order = np.argsort(-evidence.actual.sum(axis=1), kind="stable")[:_SHOWN_SHARDS]
    return [
        ShardForecast(
            shard_id=int(shard),
            history_times=times,
            history=history[shard],
            times=evidence.times,
            mean=evidence.mean[shard],
            q05=evidence.q05[shard],
            q95=evidence.q95[shard],
            naive=evidence.naive[shard],
            actual=evidence.actual[shard],
        )
        for shard in order
    ]
