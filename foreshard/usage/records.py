"""Lines → usage and query records: what a valid row is, and the reason why any other row goes to quarantine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from foreshard.lake.tables import QUERY_RECORD, USAGE_RECORD, Table
from foreshard.settings import Settings

_CORRUPT = "_corrupt_record"
_TIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}"


@dataclass(frozen=True)
class Field:
    """One field of a landing line: its type in Spark's terms, and whether a row without it is refused."""

    name: str
    type: str = "string"
    required: bool = True
    non_negative: bool = False


@dataclass(frozen=True)
class RecordKind:
    """One of the two logs: where it lands, what its lines hold and the table that its accepted rows are appended to."""

    table: Table
    fields: tuple[Field, ...]
    derived: Callable[[Settings], dict[str, Column]]

    @property
    def name(self) -> str:
        return self.table.name


def slot_column(settings: Settings) -> Column:
    """The slot of `entity_id`; Spark's xxhash64 has seed 42, as `foreshard.hashing.entity_slot`."""
    return F.xxhash64("entity_id").bitwiseAND(F.lit(settings.slots - 1).cast("bigint")).cast("int")


def age_class_column(settings: Settings) -> Column:
    """How old the oldest data is that a query asks for, at the time it asked."""
    days = (F.col("event_time").cast("double") - F.col("range_start").cast("double")) / 86_400
    return (
        F.when(days <= settings.age.recent_days, "recent").when(days <= settings.age.months_days, "months").otherwise("older")
    )


_IDENTITY = (Field("record_id", required=False), Field("revision", "int", required=False, non_negative=True))
_KEY = (Field("entity_id"), Field("service_id"), Field("operation_id"))

USAGE = RecordKind(
    USAGE_RECORD,
    (*_IDENTITY, *_KEY, Field("event_time", "timestamp"), Field("quantity", "decimal(18,6)", non_negative=True)),
    lambda settings: {"slot": slot_column(settings)},
)
QUERIES = RecordKind(
    QUERY_RECORD,
    (
        *_IDENTITY,
        *_KEY,
        Field("range_start", "timestamp"),
        Field("range_end", "timestamp"),
        Field("query_class"),
        Field("event_time", "timestamp"),
        Field("candidates", "array<struct<node_id: string, score: double>>", required=False),
        Field("node_id"),
        Field("predicted_load", "double", non_negative=True),
        Field("epoch", "bigint", non_negative=True),
        Field("reason"),
        Field("latency_ms", "double", non_negative=True),
        Field("bytes", "bigint", non_negative=True),
        Field("status", "int", non_negative=True),
        Field("load_after", "double", non_negative=True),
    ),
    lambda settings: {"age_class": age_class_column(settings), "slot": slot_column(settings)},
)
KINDS = (USAGE, QUERIES)


def judged(lines: DataFrame, kind: RecordKind, settings: Settings) -> DataFrame:
    """Lines with their fields typed, `record_id` and `revision` filled in, and `problem`: the reason to refuse, or null.

    The first failing rule names the row's reason: unreadable, malformed, a missing field, a wrong type, a negative number,
    a time in the future, a time too late.
    """
    schema = ", ".join(f"`{f.name}` string" for f in kind.fields) + f", `{_CORRUPT}` string"
    parsed = F.from_json("raw", schema, {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": _CORRUPT})
    read = lines.withColumn("read", parsed)
    typed = read.select(*lines.columns, "read", *[_typed(f).alias(f.name) for f in kind.fields])
    reason = F.coalesce(F.col("problem"), *_problems(kind), *_time_problems(settings))
    identity = F.coalesce(F.col("record_id"), F.concat_ws(":", "file_checksum", F.col("file_row").cast("string")))
    return typed.select(
        *[c for c in lines.columns if c != "problem"],
        *[f.name for f in kind.fields if f.name not in ("record_id", "revision")],
        identity.alias("record_id"),
        F.coalesce(F.col("revision"), F.lit(0)).alias("revision"),
        reason.alias("problem"),
    )


def _typed(field: Field) -> Column:
    raw = F.col(f"read.{field.name}")
    if field.type.startswith("array"):
        return F.from_json(raw, field.type)
    if field.type == "timestamp":
        return F.when(raw.rlike(_TIME), raw.try_cast("timestamp"))
    return raw.try_cast(field.type)


def _problems(kind: RecordKind) -> list[Column]:
    corrupt = F.col(f"read.{_CORRUPT}")
    problems = [F.when(F.col("read").isNull() | corrupt.isNotNull(), "malformed JSON")]
    for field in kind.fields:
        raw, typed = F.col(f"read.{field.name}"), F.col(field.name)
        if field.required:
            missing = raw.isNull() | (F.trim(raw) == "")
            problems.append(F.when(missing, f"missing {field.name}"))
        wrong = raw.isNotNull() & typed.isNull()
        if field.type == "double":
            wrong = wrong | F.isnan(typed) | (F.abs(typed) == float("inf"))
        problems.append(
            F.when(wrong, F.concat(F.lit(f"{field.name} is not a {_plain(field.type)}: "), F.substring(raw, 1, 80)))
        )
        if field.non_negative:
            problems.append(F.when(typed < 0, F.concat(F.lit(f"negative {field.name}: "), typed.cast("string"))))
    return problems


def _plain(spark_type: str) -> str:
    if spark_type == "timestamp":
        return "time (ISO 8601)"
    if spark_type.startswith("array"):
        return "list of candidates"
    return {"int": "whole number", "bigint": "whole number"}.get(spark_type, "number")


def _time_problems(settings: Settings) -> list[Column]:
    future = F.col("landed_at") + F.expr(f"INTERVAL {settings.future_tolerance_minutes} MINUTES")
    late = F.col("landed_at") - F.expr(f"INTERVAL {settings.lateness_days} DAYS")
    return [
        F.when(F.col("event_time") > future, F.concat(F.lit("event_time in the future: "), F.col("event_time").cast("string"))),
        F.when(F.col("event_time") < late, F.concat(F.lit("too late: event_time "), F.col("event_time").cast("string"))),
    ]


def accepted(judged_lines: DataFrame, kind: RecordKind, settings: Settings) -> DataFrame:
    """The accepted rows with the columns of the record table."""
    derived = kind.derived(settings)
    rows = judged_lines.where("problem IS NULL").withColumn("day", F.to_date("event_time"))
    for name, column in derived.items():
        rows = rows.withColumn(name, column)
    return rows.select(*[F.col(f.name).cast(f.dataType) for f in kind.table.schema.fields])


def refused(judged_lines: DataFrame, kind: RecordKind) -> DataFrame:
    """The refused rows as they were, with the reason, with the columns of `quarantine`."""
    return judged_lines.where("problem IS NOT NULL").select(
        F.lit(kind.name).alias("table_name"),
        "file_checksum",
        "file_name",
        "file_row",
        "raw",
        F.col("problem").alias("reason"),
        "landed_at",
    )
