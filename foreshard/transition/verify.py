"""Comparing copies with their source, segment by segment, at one version: counts, sums and an order-independent checksum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from foreshard.lake import delta
from foreshard.lake.tables import USAGE_HOURLY
from foreshard.settings import Settings
from foreshard.transition.copy import source_rows

_FIGURES = ["rows", "quantity", "events", "checksum"]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A segment whose copy differs from its source; either count is 0 where that side has no such segment."""

    node_id: str
    shard_id: int
    day: date
    source_rows: int
    copied_rows: int

    def __str__(self) -> str:
        return (
            f"shard {self.shard_id} on {self.node_id}, day {self.day}: "
            f"{self.source_rows} rows at the source, {self.copied_rows} in the copy"
            + (", with other content" if self.source_rows == self.copied_rows else "")
        )


@dataclass(frozen=True)
class Verification:
    """The outcome: copied rows per (node, shard), and the segments that differ."""

    rows: Mapping[tuple[str, int], int]
    mismatches: tuple[Mismatch, ...]


def figures(rows: DataFrame, keys: list[str]) -> DataFrame:
    """Per group: rows, sums, and a checksum that does not depend on the rows' order (a sum and an xor of their hashes)."""
    line = F.xxhash64(*USAGE_HOURLY.schema.names)
    return (
        rows.withColumn("line", line)
        .groupBy(*keys)
        .agg(
            F.count("*").alias("rows"),
            F.sum("quantity").alias("quantity"),
            F.sum("events").alias("events"),
            F.concat_ws("/", F.bit_xor("line").cast("string"), F.sum(F.col("line").cast("decimal(38,0)")).cast("string")).alias(
                "checksum"
            ),
        )
    )


def verify(
    spark: SparkSession,
    settings: Settings,
    coverage: Mapping[str, Mapping[int, date | None]],
    version: int,
    isolated: Mapping[str, int],
) -> Verification:
    """Compares the copies (node → shard → first covered day) with the source at `version`.

    The serving tables must have applied exactly that version; the caller holds their leases.
    """
    copied_parts, expected_parts = [], []
    for node_id, shards in sorted(coverage.items()):
        table = delta.read(spark, settings.table(f"serving/{node_id}")).where(F.col("shard_id").isin(list(shards)))
        copied_parts.append(figures(table, ["shard_id", "day"]).withColumn("node_id", F.lit(node_id)))
        source = source_rows(spark, settings, version, shards, isolated)
        expected_parts.append(figures(source, ["shard_id", "day"]).withColumn("node_id", F.lit(node_id)))
    keys = ["node_id", "shard_id", "day"]
    copied = _union(copied_parts).select(*keys, *[F.col(f).alias(f"copied_{f}") for f in _FIGURES])
    expected = _union(expected_parts).select(*keys, *[F.col(f).alias(f"source_{f}") for f in _FIGURES])
    same = F.lit(True)
    for figure in _FIGURES:
        same = same & F.col(f"source_{figure}").eqNullSafe(F.col(f"copied_{figure}"))
    compared = expected.join(copied, keys, "full").withColumn("same", same)
    segments = compared.select(
        *keys, F.coalesce("source_rows", F.lit(0)).alias("s"), F.coalesce("copied_rows", F.lit(0)).alias("c"), "same"
    ).collect()
    rows: dict[tuple[str, int], int] = {(node, shard): 0 for node, shards in coverage.items() for shard in shards}
    for segment in segments:
        rows[segment["node_id"], segment["shard_id"]] += segment["c"]
    wrong = [Mismatch(x["node_id"], x["shard_id"], x["day"], x["s"], x["c"]) for x in segments if not x["same"]]
    return Verification(rows, tuple(sorted(wrong, key=lambda m: (m.node_id, m.shard_id, m.day))))


def _union(parts: list[DataFrame]) -> DataFrame:
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.unionByName(part)
    return whole
