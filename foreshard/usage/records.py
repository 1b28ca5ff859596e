"""Lines → usage and query records: what a valid row is, and the reason why any other row goes to quarantine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from foreshard.lake.tables import QUERY_RECORD, USAGE_RECORD, Table
from foreshard.settings import Settings

_CORRUPT = "_corrupt_record"
# What a refused row is told from: the row as it was, the JSON object it was read as if that is another, why it is unreadable.
TOLD = ("raw", "text", "problem")


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
    days = (F.unix_micros("event_time") - F.unix_micros("range_start")) / 86_400_000_000
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


def read_lines(lines: DataFrame, kind: RecordKind, settings: Settings) -> DataFrame:
    """Lines of `landing.lines` with their fields typed, `record_id` and `revision` filled in, and `good`: whether accepted.

    TOLD is kept for the others only, for `refused` to say what is wrong with them. One typed parse and a short condition
    decide every row, because almost all are good; a condition that also names the reason is too long for the JVM to compile.
    """
    schema = ", ".join(f"`{f.name}` {f.type}" for f in kind.fields) + f", `{_CORRUPT}` string"
    text = F.coalesce("text", "raw")
    read = lines.withColumn("read", F.from_json(text, schema, {"columnNameOfCorruptRecord": _CORRUPT}))
    fields = [F.col(f"read.{f.name}") for f in kind.fields]
    corrupt = F.col(f"read.{_CORRUPT}").isNotNull()
    return _judged(read.select(*lines.columns, *fields, corrupt.alias("corrupt")), kind, settings)


def read_typed(rows: DataFrame, kind: RecordKind, settings: Settings) -> DataFrame:
    """As `read_lines`, of rows whose fields `landing.typed` has typed already."""
    values = F.to_json(F.struct(*[f.name for f in kind.fields]))
    return _judged(rows.withColumns({"text": values, "corrupt": F.lit(False)}), kind, settings)


def _judged(typed: DataFrame, kind: RecordKind, settings: Settings) -> DataFrame:
    good = F.col("problem").isNull() & ~F.col("corrupt")
    for field in kind.fields:
        good = good & _is_good(field)
    first, last = _time_bounds(settings)
    good = F.coalesce(good & F.unix_micros("event_time").between(first, last), F.lit(False))
    judged = typed.withColumn("good", good)
    good = F.col("good")
    # An empty id is none: otherwise all rows of a producer that fills none in would be repetitions of one. And a refused row
    # is known by its file and row, whatever it says: it must not stand in the way of the row that repairs it.
    given = F.when(good, F.nullif(F.trim("record_id"), F.lit("")))
    identity = F.coalesce(given, F.concat_ws(":", "file_checksum", F.col("file_row").cast("string")))
    return judged.select(
        "file_name",
        "file_checksum",
        "file_row",
        "landed_at",
        *[f.name for f in kind.fields if f.name not in ("record_id", "revision")],
        identity.alias("record_id"),
        F.coalesce(F.when(good, F.col("revision")), F.lit(0)).alias("revision"),
        "good",
        *[F.when(~F.col("good"), F.col(name)).alias(name) for name in TOLD],
    )


def _is_good(field: Field) -> Column:
    column = F.col(field.name)
    good = column.isNotNull() if field.required else F.lit(True)
    if field.required and field.type == "string":
        good = column.isNotNull() & (F.trim(column) != "")
    if field.type == "double":
        good = good & ~F.isnan(column) & (column < float("inf"))
    if field.non_negative:
        good = good & (column.isNull() | (column >= 0))
    return good


def _time_bounds(settings: Settings) -> tuple[Column, Column]:
    """The oldest and the newest event time that is accepted, by the row's landing time, in microseconds since 1970.

    As numbers: adding an interval to a timestamp costs Spark more than the rest of the check.
    """
    landed = F.unix_micros("landed_at")
    return landed - settings.lateness_days * 86_400_000_000, landed + settings.future_tolerance_minutes * 60_000_000


def record_rows(read: DataFrame, kind: RecordKind, settings: Settings) -> DataFrame:
    """The rows of `read_lines` with the columns of the record table and TOLD; `day` is null in the refused ones alone."""
    rows = read.withColumn("day", F.when(F.col("good"), F.to_date("event_time")))
    for name, column in kind.derived(settings).items():
        rows = rows.withColumn(name, column)
    return rows.select(*[F.col(f.name).cast(f.dataType) for f in kind.table.schema.fields], *TOLD)


def refused(rows: DataFrame, kind: RecordKind, settings: Settings) -> DataFrame:
    """The refused rows of `record_rows` as they were, with the reason, with the columns of `quarantine`.

    The first failing rule names the reason: unreadable, malformed, a missing field, a wrong type, a negative number, a time
    in the future, a time too late.
    """
    lines = rows.select("file_name", "file_checksum", "file_row", "landed_at", *TOLD)
    texts = ", ".join(f"`{f.name}` string" for f in kind.fields) + f", `{_CORRUPT}` string"
    text = F.coalesce("text", "raw")
    parsed = lines.withColumn("read", F.from_json(text, texts, {"columnNameOfCorruptRecord": _CORRUPT}))
    typed = parsed.select(*lines.columns, "read", *[_typed(f).alias(f.name) for f in kind.fields])
    unreadable = F.col("problem")
    # What no rule names was still not as declared, such as a number in quotes: it must not be lost.
    reason = F.coalesce(
        unreadable, *_problems(kind), *_time_problems(settings), F.lit("a field has another type than declared")
    )
    return typed.select(
        F.lit(kind.name).alias("table_name"),
        "file_checksum",
        "file_name",
        "file_row",
        F.coalesce("raw", "text", F.lit("")).alias("raw"),
        reason.alias("reason"),
        "landed_at",
    )


def _typed(field: Field) -> Column:
    raw = F.col(f"read.{field.name}")
    if field.type.startswith("array"):
        return F.from_json(raw, field.type)
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
    oldest, newest = _time_bounds(settings)
    time, shown = F.unix_micros("event_time"), F.col("event_time").cast("string")
    return [
        F.when(time > newest, F.concat(F.lit("event_time in the future: "), shown)),
        F.when(time < oldest, F.concat(F.lit("too late: event_time "), shown)),
    ]
