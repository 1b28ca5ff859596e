"""Comparing copies with their source, segment by segment, at one version: counts, sums and an order-independent checksum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import reduce

import pandas as pd
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from foreshard.lake import delta
from foreshard.lake.tables import USAGE_HOURLY
from foreshard.settings import Settings
from foreshard.transition.copy import contents_of, source_rows
from foreshard.transition.differences import RowDifference, differing_rows, unreadable_file

Coverage = Mapping[str, Mapping[int, date | None]]  # node → shard → first covered day
_FIGURES = ["rows", "quantity", "events", "mixed", "low", "high"]
_EPOCH = date(1970, 1, 1)
# Segments whose rows are looked at one by one; of more the counts say enough.
_LOOKED_AT = 20


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A segment whose copy differs from its source; either count is 0 where that side has no such segment.

    `differing`: up to three of the rows that only one side has. `file`: a file of the copy that cannot be read; then nothing is
    known of the rest, and `day` is None.
    """

    node_id: str
    shard_id: int
    day: date | None
    source_rows: int = 0
    copied_rows: int = 0
    differing: tuple[RowDifference, ...] = ()
    file: str = ""

    def __str__(self) -> str:
        where = f"shard {self.shard_id} on {self.node_id}"
        if self.file:
            return f"{where}: {self.file} is damaged or missing and cannot be read"
        other = ", with other content" if self.source_rows == self.copied_rows else ""
        rows = "; ".join(map(str, self.differing))
        return f"{where}, day {self.day}: {self.source_rows} rows at the source, {self.copied_rows} in the copy{other}" + (
            f" ({rows})" if rows else ""
        )


@dataclass(frozen=True)
class Verification:
    """The outcome: copied rows per (node, shard), and the segments that differ."""

    rows: Mapping[tuple[str, int], int]
    mismatches: tuple[Mismatch, ...]


def figures(rows: DataFrame, keys: list[str]) -> DataFrame:
    """Per group: rows, sums, and a checksum that does not depend on the rows' order: xor and sums of halves of their hashes.

    The halves' sums cannot overflow below 2³¹ rows a group, and are added as integers: a sum of whole hashes would need
    decimals, which take several times as long. A sum that damaged values make overflow is null.
    """
    return (
        rows.withColumn("line", F.xxhash64(*USAGE_HOURLY.schema.names))
        .groupBy(*keys)
        .agg(
            F.count("*").alias("rows"),
            F.try_sum("quantity").alias("quantity"),
            F.try_sum("events").alias("events"),
            F.bit_xor("line").alias("mixed"),
            F.sum(F.col("line").bitwiseAND(F.lit(0xFFFFFFFF))).alias("low"),
            F.sum(F.shiftright("line", 32)).alias("high"),
        )
    )


def verify(
    spark: SparkSession, settings: Settings, coverage: Coverage, version: int, isolated: Mapping[str, int]
) -> Verification:
    """Compares the copies (node → shard → first covered day) with the source at `version`.

    The serving tables must have applied exactly that version; the caller holds their leases. Rows that a copy has from before
    its first day are a mismatch, unless it is just being made wider. Raises ForeshardError if a file of the source cannot be
    read.
    """
    readable = {node_id: dict(shards) for node_id, shards in coverage.items()}
    unreadable: list[Mismatch] = []
    while True:
        try:
            found = _compared(spark, settings, readable, version, isolated)
            break
        except (Py4JJavaError, PySparkException) as error:
            damaged = unreadable_file(error, settings, readable)
            if damaged is None:
                raise
            node_id, shard_id, file = damaged
            # The rest is compared without it.
            del readable[node_id][shard_id]
            unreadable.append(Mismatch(node_id, shard_id, None, file=file))
    wrong = sorted([*unreadable, *found.mismatches], key=lambda m: (m.node_id, m.shard_id, m.day or date.min))
    rows = {(node, shard): 0 for node, shards in coverage.items() for shard in shards}
    return Verification(rows | dict(found.rows), tuple(wrong))


def _compared(
    spark: SparkSession, settings: Settings, coverage: Coverage, version: int, isolated: Mapping[str, int]
) -> Verification:
    if not any(coverage.values()):
        return Verification({}, ())
    expected, copied = _expected(spark, settings, coverage, version, isolated), _copied(spark, settings, coverage)
    rows: dict[tuple[str, int], int] = {}
    wrong: list[Mismatch] = []
    for node_id, shards in sorted(coverage.items()):
        first = pd.DataFrame({"shard_id": list(shards), "first": [_number(day) for day in shards.values()]})
        source = expected.merge(first, on="shard_id").query("day >= first").drop(columns="first")
        copy = copied[copied["node_id"] == node_id].drop(columns="node_id")
        both = source.merge(copy, on=["shard_id", "day"], how="outer", suffixes=("_source", "_copied"), indicator=True)
        # A segment that one side lacks has no figures there: they must not turn the other's into inexact numbers.
        differs = (both["_merge"] != "both") | (both["digest_source"] != both["digest_copied"])
        for one in both[differs].to_dict("records"):
            there, here = (0 if pd.isna(n) else int(n) for n in (one["rows_source"], one["rows_copied"]))
            wrong.append(Mismatch(node_id, int(one["shard_id"]), _day(int(one["day"])), there, here))
        counted = copy.groupby("shard_id")["rows"].sum()
        rows |= {(node_id, shard): int(n) for shard, n in zip(counted.index.tolist(), counted.tolist(), strict=True)}
    wrong.sort(key=lambda m: (m.node_id, m.shard_id, m.day or date.min))
    return Verification(rows, tuple(_with_rows(spark, settings, wrong, version, isolated)))


def _expected(
    spark: SparkSession, settings: Settings, coverage: Coverage, version: int, isolated: Mapping[str, int]
) -> pd.DataFrame:
    """The source's segments: it is read once, however many nodes have copies of a shard."""
    first: dict[int, date | None] = {}
    for shards in coverage.values():
        for shard, day in shards.items():
            other = first.get(shard, day)
            first[shard] = min(day, other) if day and other else None
    return _collected(figures(source_rows(spark, settings, version, first, isolated), ["shard_id", "day"]))


def _copied(spark: SparkSession, settings: Settings, coverage: Coverage) -> pd.DataFrame:
    """The nodes' segments, with `node_id`."""
    parts = [
        figures(_copy_rows(spark, settings, node_id, shards), ["shard_id", "day"]).withColumn("node_id", F.lit(node_id))
        for node_id, shards in sorted(coverage.items())
        if shards
    ]
    return _collected(reduce(DataFrame.unionByName, parts), "node_id")


def _collected(segments: DataFrame, *keys: str) -> pd.DataFrame:
    """Shard, day as a number, rows, and one number that stands for all figures: 24 bytes a segment, compared without Spark."""
    digest = F.xxhash64(*_FIGURES).alias("digest")
    found: pd.DataFrame = (
        segments.select(*keys, "shard_id", F.unix_date("day").alias("day"), "rows", digest).toArrow().to_pandas()
    )
    return found.astype({"rows": "Int64", "digest": "Int64"})


def _number(day: date | None) -> int:
    return (day - _EPOCH).days if day else -(2**31)


def _day(number: int) -> date:
    """Damage can make days that Python has no dates for; the nearest that it has stands for them."""
    return _EPOCH + timedelta(days=min(max(number, (date.min - _EPOCH).days), (date.max - _EPOCH).days))


def _copy_rows(spark: SparkSession, settings: Settings, node_id: str, shards: Mapping[int, date | None]) -> DataFrame:
    """The rows of these copies, without those of a copy in the making beside them."""
    rows = delta.read(spark, settings.table(f"serving/{node_id}")).where(F.col("shard_id").isin(list(shards)))
    said = contents_of(settings, node_id)
    for shard in sorted({**said.unfinished, **said.widened}.keys() & shards.keys()):
        day = shards[shard]
        if day is not None:
            rows = rows.where((F.col("shard_id") != shard) | (F.col("day") >= F.lit(day)))
    return rows


def _with_rows(
    spark: SparkSession, settings: Settings, wrong: list[Mismatch], version: int, isolated: Mapping[str, int]
) -> list[Mismatch]:
    """The mismatches, the first of them with some of the rows that differ."""
    found: dict[tuple[str, int, date], tuple[RowDifference, ...]] = {}
    for node_id in sorted({m.node_id for m in wrong[:_LOOKED_AT]}):
        segments = [(m.shard_id, m.day) for m in wrong[:_LOOKED_AT] if m.node_id == node_id and m.day]
        source = source_rows(spark, settings, version, dict.fromkeys(shard for shard, _ in segments), isolated)
        copy = delta.read(spark, settings.table(f"serving/{node_id}"))
        for segment, rows in differing_rows(spark, source, copy, segments).items():
            found[node_id, *segment] = rows
    return [replace(m, differing=found.get((m.node_id, m.shard_id, m.day), ())) if m.day else m for m in wrong]
