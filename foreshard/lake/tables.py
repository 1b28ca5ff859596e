"""The schema of every Delta table, in Spark's terms. docs/architecture.md says what each column means."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from foreshard.lake import delta, log
from foreshard.settings import Settings


@dataclass(frozen=True)
class Table:
    """A Delta table: its name below the pool's folder, columns as DDL, partition columns and properties."""

    name: str
    columns: str
    partition: tuple[str, ...] = ()
    properties: tuple[tuple[str, str], ...] = field(default=())
    # The columns by which a read may skip files; statistics are gathered for every row written, so only for these.
    skipping: tuple[str, ...] = ()

    @property
    def schema(self) -> StructType:
        return StructType.fromDDL(self.columns)

    def ensure(self, spark: SparkSession, settings: Settings) -> str:
        """Creates the table if it is missing, adds columns that it had not yet when it was made; returns its path."""
        return self.newest(spark, settings).path

    def newest(self, spark: SparkSession, settings: Settings) -> log.Snapshot:
        """The table as it is now, after `ensure`."""
        path = settings.table(self.name)
        present = log.opened(path)
        if present is None:
            properties = {"delta.checkpointInterval": str(log.CHECKPOINT_INTERVAL)} | dict(self.properties)
            if self.skipping:
                properties["delta.dataSkippingStatsColumns"] = ",".join(self.skipping)
            delta.create(spark, path, self.schema, self.partition, properties)
            return log.snapshot(path)
        names = {field.name for field in present.schema().fields}
        if missing := [field for field in self.schema.fields if field.name not in names]:
            delta.add_columns(spark, path, missing)
            return log.snapshot(path)
        return log.Snapshot(path, present)


_CHANGE_FEED = (("delta.enableChangeDataFeed", "true"),)
_RECORD_SKIPPING = ("revision", "event_time", "landed_at")
_FILE = "landed_at timestamp, file_checksum string, file_name string, file_row bigint, day date"

USAGE_RECORD = Table(
    "usage_record",
    "record_id string, revision int, entity_id string, service_id string, operation_id string, event_time timestamp, "
    f"quantity decimal(18,6), slot int, {_FILE}",
    ("day",),
    skipping=_RECORD_SKIPPING,
)
QUERY_RECORD = Table(
    "query_record",
    "record_id string, revision int, entity_id string, service_id string, operation_id string, range_start timestamp, "
    "range_end timestamp, query_class string, event_time timestamp, "
    "candidates array<struct<node_id: string, score: double>>, node_id string, predicted_load double, epoch bigint, "
    "reason string, latency_ms double, bytes bigint, status int, load_after double, age_class string, slot int, " + _FILE,
    ("day",),
    skipping=_RECORD_SKIPPING,
)
QUARANTINE = Table(
    "quarantine",
    "table_name string, file_checksum string, file_name string, file_row bigint, raw string, reason string, "
    "landed_at timestamp",
    ("table_name",),
)
USAGE_HOURLY = Table(
    "usage_hourly",
    "entity_id string, service_id string, operation_id string, hour timestamp, slot int, quantity decimal(28,6), "
    "events bigint, day date",
    ("day",),
    _CHANGE_FEED,
    ("hour", "slot", "entity_id"),
)
QUERY_LOAD = Table(
    "query_load",
    "slot int, entity_id string, interval_start timestamp, requests bigint, load decimal(20,6), bytes bigint, errors bigint, "
    "latency_histogram array<struct<bucket: int, requests: bigint>>, day date",
    ("day",),
    skipping=("interval_start", "slot"),
)
QUERY_PATTERN_OBSERVED = Table(
    "query_pattern_observed",
    "slot int, entity_id string, service_id string, operation_id string, time_interval string, requests bigint, day date",
    ("day",),
    skipping=("slot",),
)
LOAD_FORECAST = Table(
    "load_forecast",
    "shard_id int, interval_start timestamp, origin timestamp, model string, mean double, q05 double, q10 double, q50 double, "
    "q90 double, q95 double, q99 double, spread_own double, spread_common array<double>, input_version bigint, "
    "fallback_reason string, origin_day date",
    ("origin_day",),
)
QUERY_PATTERN = Table(
    "query_pattern",
    "shard_id int, entity_id string, service_id string, operation_id string, time_interval string, interval_start timestamp, "
    "origin timestamp, probability double, origin_day date",
    ("origin_day",),
)
FORECAST_SCORE = Table(
    "forecast_score",
    "shard_id int, interval_start timestamp, origin timestamp, model string, horizon_steps int, actual double, mean double, "
    "q05 double, q10 double, q50 double, q90 double, q95 double, q99 double, naive double, day date",
    ("day",),
)
NODE_CORRECTION = Table(
    "node_correction", "node_id string, origin timestamp, correction double, queries bigint, day date", ("day",)
)
CALIBRATION_STATE = Table("calibration_state", "origin timestamp, z double, coverage double, intervals bigint")


def serving(node_id: str) -> Table:
    """The copies that one node holds; partitioned by shard, so that a copy or a retirement is a change of whole files."""
    return Table(f"serving/{node_id}", USAGE_HOURLY.columns + ", shard_id int", ("shard_id",))
