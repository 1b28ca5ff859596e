"""Trace folders as files, for the tests of what reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

START = datetime(2024, 3, 4, tzinfo=UTC)


def written(folder: Path, rows: pa.Table, **header: Any) -> Path:
    """`header`: fields of trace.json besides its interval of an hour; None leaves the field out."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {"name": "drawn", "interval_seconds": 3600} | header
    (folder / "trace.json").write_text(json.dumps({k: v for k, v in fields.items() if v is not None}), "utf-8")
    pq.write_table(rows, folder / "trace.parquet")
    return folder


def rows(hours: Sequence[float], entities: Sequence[str], requests: Sequence[Any], **changed: pa.Array) -> pa.Table:
    """Rows at so many hours after `START`; `changed` replaces columns."""
    columns = {
        "ts": pa.array([START + timedelta(hours=hour) for hour in hours], pa.timestamp("us", tz="UTC")),
        "entity_id": pa.array(entities, pa.string()),
        "service_id": pa.array(["s"] * len(hours), pa.string()),
        "operation_id": pa.array(["o"] * len(hours), pa.string()),
        "requests": pa.array(requests),
    }
    return pa.table(columns | changed)


def daily_cycle(days: int, entities: int = 12, seed: int = 1) -> pa.Table:
    """An hourly load with a cycle of a day and some noise, of entities of unequal weight."""
    draw = np.random.default_rng(seed)
    hours = np.arange(24 * days)
    level = 1_000 * (1.2 + np.sin(2 * np.pi * hours / 24)) * draw.uniform(0.9, 1.1, hours.size)
    counts = np.floor(level[:, None] * draw.dirichlet(np.full(entities, 2.0))).astype(int)
    names = [f"entity-{i}" for i in range(entities)]
    return rows(hours.repeat(entities).tolist(), names * hours.size, counts.ravel().tolist())
