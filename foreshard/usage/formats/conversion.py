"""A column of a Parquet file → a field's type: in bulk where the types go together, else value by value.

Types go together if no value changes its meaning: whole numbers and decimals for numbers, any text or whole number for a
text, times with or without a zone (UTC) for times. Where the type changed, or a value does not fit, each value is looked
at, and what cannot be converted is told.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from foreshard.usage.formats.mapping import MappedField
from foreshard.usage.strictness import STARTS_WITH_DATE, not_a

_CANDIDATE = pa.struct([("node_id", pa.string()), ("score", pa.float64())])
_TYPES = {
    "string": pa.string(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "array<struct<node_id: string, score: double>>": pa.list_(_CANDIDATE),
}
_TIME = _TYPES["timestamp"]


def arrow_type(spark_type: str) -> pa.DataType:
    """Arrow's type for one of the types that record fields have."""
    if spark_type.startswith("decimal"):
        precision, scale = spark_type.removeprefix("decimal(").removesuffix(")").split(",")
        return pa.decimal128(int(precision), int(scale))
    return _TYPES[spark_type]


def converted(field: MappedField, column: pa.Array) -> tuple[pa.Array, list[tuple[int, str]]]:
    """The column in the field's type, and (place, problem) of the values that are null there because they do not fit."""
    target = arrow_type(field.type)
    if column.type == target or column.null_count == len(column):
        return column.cast(target), []
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        done = _in_bulk(column, target)
    except pa.ArrowException:
        done = None
    return (done, []) if done is not None else _one_by_one(field, column, target)


def _in_bulk(column: pa.Array, target: pa.DataType) -> pa.Array | None:
    """None for types that do not go together; raises ArrowException for a value that does not fit."""
    source = column.type
    if pa.types.is_string(target):
        fits = _is_text(source) or pa.types.is_integer(source) or pa.types.is_binary(source)
        return column.cast(target) if fits else None
    if target == _TIME:
        return _times(column)
    if pa.types.is_list(target):
        return column.cast(target) if pa.types.is_list(source) or pa.types.is_large_list(source) else None
    if not (pa.types.is_integer(source) or pa.types.is_floating(source) or pa.types.is_decimal(source)):
        return None
    if pa.types.is_decimal(target) and pa.types.is_decimal(source) and source.scale > target.scale:
        column = pc.round(column, target.scale, round_mode="half_towards_infinity")
    return column.cast(target)


def _is_text(found: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(found) for test in tests)


def _times(column: pa.Array) -> pa.Array | None:
    if _is_text(column.type):
        dated = pc.all(pc.match_substring_regex(column, r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"), min_count=0).as_py()
        if not dated:
            return None
        zoned = pc.any(pc.match_substring_regex(column, r"(?:Z|[+-][0-9]{2}:?[0-9]{2})$"), min_count=0).as_py()
        return column.cast(_TIME if zoned else pa.timestamp("us")).cast(_TIME)
    if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        return None
    zone = getattr(column.type, "tz", None)
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    # Without a zone, times are of UTC. Nanoseconds are cut off, as the reader of JSON does.
    fine = getattr(column.type, "unit", "us") == "ns"
    return column.cast(pa.timestamp("us", tz="UTC" if zone else None), safe=not fine).cast(_TIME)


def _one_by_one(field: MappedField, column: pa.Array, target: pa.DataType) -> tuple[pa.Array, list[tuple[int, str]]]:
    values: list[Any] = []
    problems: list[tuple[int, str]] = []
    for place, scalar in enumerate(column):
        value = None
        try:
            value = scalar.as_py()
            values.append(None if value is None or value == "" else _value(field, value, target))
        except (ValueError, InvalidOperation, OverflowError, TypeError, AttributeError):
            values.append(None)
            problems.append((place, not_a(field, str(scalar) if value is None else plain(value))))
    return pa.array(values, target), problems


def _value(field: MappedField, value: Any, target: pa.DataType) -> Any:
    """Raises one of several errors if the value is not of the field's type."""
    if isinstance(value, bool):
        raise ValueError("no number, time or text")
    if field.type == "timestamp":
        return _time(value)
    if field.type == "string":
        if not isinstance(value, (str, int)):
            raise ValueError("no text")
        return str(value)
    if field.type.startswith("array"):
        return _candidates(json.loads(value) if isinstance(value, str) else value)
    number = Decimal(str(value))
    if field.type == "double":
        return float(number)
    scale = target.scale if pa.types.is_decimal(target) else 0
    made = number.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP)
    if pa.types.is_decimal(target):
        return pa.scalar(made, target).as_py()
    if made != number:
        raise ValueError("no whole number")
    return pa.scalar(int(made), target).as_py()


def _time(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not STARTS_WITH_DATE.match(value):
        raise ValueError("no date")
    parsed = datetime.fromisoformat(value.strip())
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _candidates(value: Any) -> list[dict[str, Any]]:
    return [{"node_id": str(one["node_id"]), "score": None if one["score"] is None else float(one["score"])} for one in value]


def plain(value: Any) -> str:
    """A value as JSON would have it, without the quotes of a text."""
    return value if isinstance(value, str) else json.dumps(value, default=_written, ensure_ascii=False)


def _written(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value.isoformat() if isinstance(value, (date, datetime)) else str(value)


def as_json(row: dict[str, Any]) -> str:
    """A row as quarantine shows it; numbers that JSON does not have are texts there."""
    kept = {name: str(value) if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
    return json.dumps(kept, default=_written, ensure_ascii=False)
