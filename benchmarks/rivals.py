"""What the aggregation is measured against: the same files to the same tables by bare Spark, and by DuckDB.

`python -m benchmarks.rivals spark|duckdb FORMAT LANDING OUT` — one process each, so that each can be measured apart.
"""

from __future__ import annotations

import sys
from pathlib import Path

FIELDS = (
    "record_id string, revision int, entity_id string, service_id string, operation_id string, event_time timestamp, "
    "quantity decimal(18,6)"
)


def bare_spark(file_format: str, landing: Path, out: Path) -> None:
    """Parses, drops what is incomplete, removes repetitions, and writes records and hourly usage as Delta tables."""
    from pyspark.sql import functions as F

    from foreshard import settings as configuration
    from foreshard.lake.session import session
    from foreshard.usage.landing import LandingFile, shuffle_partitions

    settings = configuration.load()
    spark = session(settings, "bare Spark")
    # As many parts as foreshard makes of it: with the default few, this heap does not hold a part of 20 million rows.
    files = [LandingFile(str(file), file.stat().st_size) for file in landing.glob(f"*/*.{file_format}")]
    spark.conf.set("spark.sql.shuffle.partitions", str(shuffle_partitions(files, settings.spark.shuffle_partitions)))
    reader = spark.read.schema(FIELDS)
    pattern = f"{landing}/*/*.{file_format}"
    rows = reader.json(pattern) if file_format == "jsonl" else spark.read.parquet(pattern)
    slot = F.xxhash64("entity_id").bitwiseAND(F.lit(1023).cast("bigint")).cast("int")
    records = (
        rows.where("entity_id IS NOT NULL AND service_id IS NOT NULL AND operation_id IS NOT NULL AND event_time IS NOT NULL")
        .withColumn("quantity", F.col("quantity").cast("decimal(18,6)"))
        .withColumn("slot", slot)
        .withColumn("day", F.to_date("event_time"))
        .withColumn("file_name", F.col("_metadata.file_name"))
        .dropDuplicates(["record_id", "revision"])
    )
    records.write.format("delta").partitionBy("day").save(f"{out}/usage_record")
    stored = spark.read.format("delta").load(f"{out}/usage_record")
    newest = stored.where("revision > 0").groupBy("record_id").agg(F.max("revision").alias("newest"))
    superseded = (F.col("n.record_id") == F.col("r.record_id")) & (F.col("newest") > F.col("r.revision"))
    current = stored.alias("r").join(newest.alias("n"), superseded, "left_anti")
    keys = ["entity_id", "service_id", "operation_id", "hour", "slot", "day"]
    hourly = current.withColumn("hour", F.date_trunc("hour", "event_time")).groupBy(*keys)
    summed = hourly.agg(F.sum("quantity").alias("quantity"), F.count("*").alias("events"))
    summed.write.format("delta").partitionBy("day").save(f"{out}/usage_hourly")
    spark.stop()


def duckdb(file_format: str, landing: Path, out: Path) -> None:
    """The same by DuckDB, to Parquet files."""
    import duckdb as library

    out.mkdir(parents=True, exist_ok=True)
    connection = library.connect(str(out / "work.duckdb"), config={"threads": 2, "memory_limit": "2GB"})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET preserve_insertion_order = false")
    columns = (
        "{record_id: 'varchar', revision: 'integer', entity_id: 'varchar', service_id: 'varchar', operation_id: 'varchar', "
        "event_time: 'timestamptz', quantity: 'decimal(18,6)'}"
    )
    pattern = f"{landing}/*/*.{file_format}"
    source = f"read_json('{pattern}', columns={columns}, format='newline_delimited')"
    if file_format == "parquet":
        source = f"read_parquet('{pattern}')"
    connection.execute(
        f"""CREATE TABLE usage_record AS
        SELECT * EXCLUDE (rank) FROM (
            SELECT *, row_number() OVER (PARTITION BY record_id, revision) AS rank, CAST(event_time AS date) AS day
            FROM {source} WHERE entity_id IS NOT NULL AND service_id IS NOT NULL AND operation_id IS NOT NULL
        ) WHERE rank = 1"""
    )
    connection.execute(f"COPY usage_record TO '{out}/usage_record' (FORMAT parquet, PARTITION_BY (day))")
    connection.execute(
        f"""COPY (
            SELECT entity_id, service_id, operation_id, date_trunc('hour', event_time) AS hour, day,
                sum(quantity) AS quantity, count(*) AS events
            FROM usage_record AS r
            WHERE NOT EXISTS (
                FROM usage_record AS n
                WHERE n.revision > 0 AND n.record_id = r.record_id AND n.revision > r.revision
            )
            GROUP BY ALL
        ) TO '{out}/usage_hourly' (FORMAT parquet, PARTITION_BY (day))"""
    )


if __name__ == "__main__":
    {"spark": bare_spark, "duckdb": duckdb}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
