"""What gateways saw of new replicas: each process of a gateway writes its running totals, and readers add them up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from psycopg2.extras import Json

from foreshard.routing import database
from foreshard.routing.database import KeptConnection
from foreshard.transition.picture import ShadowFigures
from foreshard.usage.latency_histogram import Histogram, merged, quantile

QUANTILE = 0.95


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """One gateway process's totals for one new replica since `since_epoch`; what the counts mean is in ShadowFigures.

    The latencies are of the queries that both replicas answered. `example`: one query that differed or failed, in words.
    """

    since_epoch: int
    shard_id: int
    node_id: str
    compared: int = 0
    mismatched: int = 0
    failed: int = 0
    skipped: int = 0
    old_latency: Histogram = field(default_factory=dict)
    new_latency: Histogram = field(default_factory=dict)
    example: str = ""


def write_shadow(url: str, pool_id: str, reporter: str, report: ShadowReport) -> None:
    """Replaces what this reporter wrote of the shadow before; safe to repeat.

    `reporter` is a process, not the gateway's name alone: one that starts anew must not overwrite its forerunner's totals.
    """
    database.query(
        url,
        "upsert_shadow_report",
        {
            "pool_id": pool_id,
            "gateway_id": reporter,
            "since_epoch": report.since_epoch,
            "shard_id": report.shard_id,
            "node_id": report.node_id,
            "compared": report.compared,
            "mismatched": report.mismatched,
            "failed": report.failed,
            "skipped": report.skipped,
            "old_latency": Json(dict(report.old_latency)),
            "new_latency": Json(dict(report.new_latency)),
            "example": report.example,
        },
    )


def read_shadows(url: str | KeptConnection, pool_id: str, since_epoch: int) -> dict[tuple[int, str], ShadowFigures]:
    """(shard, node) → what all gateways together saw of the shadows that began with this epoch."""
    rows: dict[tuple[int, str], list[database.Row]] = defaultdict(list)
    for row in database.query(url, "read_shadow_reports", {"pool_id": pool_id, "since_epoch": since_epoch}):
        rows[row["shard_id"], row["node_id"]].append(row)
    return {replica: _summed(found) for replica, found in rows.items()}


def _summed(rows: list[database.Row]) -> ShadowFigures:
    return ShadowFigures(
        compared=sum(row["compared"] for row in rows),
        mismatched=sum(row["mismatched"] for row in rows),
        failed=sum(row["failed"] for row in rows),
        skipped=sum(row["skipped"] for row in rows),
        old_p95_ms=_quantile([row["old_latency"] for row in rows]),
        new_p95_ms=_quantile([row["new_latency"] for row in rows]),
        example=next((row["example"] for row in rows if row["example"]), ""),
    )


def _quantile(stored: list[Mapping[str, int]]) -> float:
    histograms = ({int(bucket): queries for bucket, queries in counts.items()} for counts in stored)
    return quantile(merged(histograms), QUANTILE)
