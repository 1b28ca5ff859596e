"""What Delta tables hold, read without Spark, as plain values that compare."""

from __future__ import annotations

from typing import Any

from deltalake import DeltaTable

from foreshard.settings import Settings


def rows(settings: Settings, table: str, *without: str) -> list[tuple[Any, ...]]:
    """All rows in an order of their own, without some columns."""
    frame = DeltaTable(settings.table(table)).to_pyarrow_table()
    kept = sorted(set(frame.column_names) - set(without))
    return sorted((tuple(row[name] for name in kept) for row in frame.to_pylist()), key=repr)


def records(settings: Settings, table: str) -> list[dict[str, Any]]:
    """All rows as dictionaries."""
    found: list[dict[str, Any]] = DeltaTable(settings.table(table)).to_pyarrow_table().to_pylist()
    return found


def version(settings: Settings, table: str) -> int:
    """The newest version."""
    return int(DeltaTable(settings.table(table)).version())
