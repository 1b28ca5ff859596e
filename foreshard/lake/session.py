"""The Spark session of a job: what spark-submit configured wins, and what it left out gets the project's defaults."""

from __future__ import annotations

import logging
import os
import time

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from foreshard.lake.workers import environment
from foreshard.settings import Settings


def session(settings: Settings, name: str) -> SparkSession:
    """A session with Delta, UTC and small local shuffles. Under spark-submit the master and jars are the submitter's."""
    # Without this, `collect` would give times in the machine's own zone, whatever the session's zone is.
    os.environ["TZ"] = "UTC"
    time.tzset()
    # At the end py4j reports each connection that it closes, to streams that may be closed already.
    logging.getLogger("py4j.clientserver").setLevel(logging.WARNING)
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if submitted:
        # Only then does SparkConf see what spark-submit was told.
        SparkContext._ensure_initialized()
    conf = SparkConf()
    defaults = {
        "spark.app.name": f"foreshard {name}",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.shuffle.partitions": str(settings.spark.shuffle_partitions),
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "4",
        "spark.ui.enabled": "false",
        # What is persisted here is read twice and dropped: compressing it costs more than it saves.
        "spark.sql.inMemoryColumnarStorage.compressed": "false",
        # A task writes a few days at once, so that their rows need not be sorted first.
        "spark.sql.maxConcurrentOutputFileWriters": "64",
        "spark.sql.warehouse.dir": str(settings.home / "spark-warehouse"),
        # So the files' footers bound the times in them, which the old kind of timestamp does not.
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
    }
    workers = environment(settings, conf.get("spark.master", settings.spark.master).startswith("local"))
    defaults |= {f"spark.executorEnv.{name}": value for name, value in workers.items()}
    for key, value in defaults.items():
        conf.setIfMissing(key, value)
    # Before a compiled function is loaded here: driver and local workers then share what is compiled.
    for name in workers.keys() & {"NUMBA_CACHE_DIR"}:
        os.environ.setdefault(name, workers[name])
    # Not a default: days and hours are UTC wherever they are told apart.
    conf.set("spark.sql.session.timeZone", "UTC")
    if not submitted:
        from foreshard.local.spark import jars

        conf.set("spark.master", settings.spark.master)
        conf.set("spark.driver.memory", settings.spark.driver_memory)
        conf.set("spark.jars", ",".join(str(jar) for jar in jars()))
    spark = SparkSession.builder.config(conf=conf).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    # A commit that changes no row still says something: how far a table is complete, what a node holds.
    spark.conf.set("spark.databricks.delta.skipRecordingEmptyCommits", "false")
    return spark
