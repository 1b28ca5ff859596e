"""How many rows a landing hour usually brings: the median of the same hour of the last four weeks, kept in Postgres."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from foreshard.routing import database
from foreshard.usage.ledger import AppendCounts

_WEEKS = 4


def usual_rows(url: str, pool_id: str, hour: datetime) -> dict[str, float]:
    """Record table → rows that this landing hour usually brings; tables with less than two known weeks are left out."""
    weeks = [hour - timedelta(weeks=week) for week in range(1, _WEEKS + 1)]
    rows = database.query(url, "read_usual_rows", {"pool_id": pool_id, "hours": weeks})
    return {row["table_name"]: float(row["usual_rows"]) for row in rows}


def record(url: str, pool_id: str, hour: datetime, counts: Mapping[str, AppendCounts]) -> None:
    """Keeps what the hour brought; the same hour again replaces it."""
    for table, count in counts.items():
        row = {"pool_id": pool_id, "table_name": table, "hour": hour, "row_count": count.read - count.quarantined}
        database.query(url, "upsert_landing_hour", row)
