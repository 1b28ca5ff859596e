"""Forecasts for tests, written straight to Delta."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake

from foreshard.settings import Settings


def write_forecast(
    settings: Settings,
    origin: datetime,
    means: Mapping[int, float],
    hours: int = 6,
    *,
    after: int = 0,
    isolated: Mapping[str, int] | None = None,
    spread_own: float = 0.0,
    spread_common: float = 0.0,
) -> None:
    """The forecast made at `origin` from so many hours `after` it on, the same at every hour: shard → mean.

    The spreads are parts of the mean.
    """
    times = [origin + timedelta(hours=after + h) for h in range(hours)]
    rows = [(shard, at, mean) for shard, mean in means.items() for at in times]
    table = pa.table(
        {
            "shard_id": pa.array([shard for shard, _, _ in rows], pa.int32()),
            "interval_start": pa.array([at for _, at, _ in rows], pa.timestamp("us", "UTC")),
            "origin": pa.array([origin] * len(rows), pa.timestamp("us", "UTC")),
            "mean": [mean for _, _, mean in rows],
            "spread_own": [spread_own * mean for _, _, mean in rows],
            "spread_common": pa.array([[spread_common * mean] for _, _, mean in rows], pa.list_(pa.float64())),
            "origin_day": pa.array([origin.date()] * len(rows), pa.date32()),
        }
    )
    said = {"input_version": 0, "origin": origin.isoformat(), "z": 1.645, "isolated": sorted((isolated or {}).items())}
    properties = CommitProperties(custom_metadata={"userMetadata": json.dumps(said)})
    write_deltalake(
        settings.table("load_forecast"), table, mode="overwrite", partition_by=["origin_day"], commit_properties=properties
    )
