"""The assets that the DAGs hand on, and how a DAG waits for one.

An event only says that something new is there: each DAG reads from Delta what that is, so the order and number of events carry
no meaning. All partition keys become the one key `latest`, else every hour of a backfill would be a run of every DAG.
"""

from __future__ import annotations

from airflow.sdk import Asset, FixedKeyMapper, PartitionedAssetTimetable

usage_hourly = Asset(name="usage_hourly", uri="x-foreshard://usage_hourly")
query_load = Asset(name="query_load", uri="x-foreshard://query_load")
load_forecast = Asset(name="load_forecast", uri="x-foreshard://load_forecast")
routing_epoch = Asset(name="routing_epoch", uri="x-foreshard://routing_epoch")


def whenever_new(asset: Asset) -> PartitionedAssetTimetable:
    """The schedule of a DAG that runs when `asset` was written, whatever its partition."""
    return PartitionedAssetTimetable(assets=asset, default_partition_mapper=FixedKeyMapper("latest"))
