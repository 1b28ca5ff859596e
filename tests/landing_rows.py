"""Landing files for tests: rows as a producer or a gateway writes them, and folders of landing hours."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from foreshard.settings import Settings


def usage(entity: str, at: datetime, quantity: Any = 1, **more: Any) -> dict[str, Any]:
    """A usage line."""
    row = {"entity_id": entity, "service_id": "s", "operation_id": "o", "event_time": at.isoformat(), "quantity": quantity}
    return row | more


def query(entity: str, at: datetime, **more: Any) -> dict[str, Any]:
    """A query line that asks for the last day."""
    row = {
        "entity_id": entity,
        "service_id": "s",
        "operation_id": "o",
        "range_start": (at - timedelta(days=1)).isoformat(),
        "range_end": at.isoformat(),
        "query_class": "point",
        "event_time": at.isoformat(),
        "candidates": [{"node_id": "a", "score": 0.5}],
        "node_id": "a",
        "predicted_load": 2.0,
        "epoch": 1,
        "reason": "lowest score",
        "latency_ms": 10.0,
        "bytes": 100,
        "status": 200,
        "load_after": 3.0,
    }
    return row | more


def land(settings: Settings, table: str, hour: datetime, name: str, rows: Iterable[dict[str, Any] | str | bytes]) -> Path:
    """Writes a file of the landing hour, one line a row; text and bytes are written as they are."""
    folder = Path(settings.landing_folder(table)) / f"{hour:%Y-%m-%dT%H}"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_bytes(b"\n".join(_line(row) for row in rows))
    return file


def _line(row: dict[str, Any] | str | bytes) -> bytes:
    if isinstance(row, bytes):
        return row
    return (row if isinstance(row, str) else json.dumps(row)).encode()
