"""How far a product reaches: the newest complete hour and the version that says so, read without Spark."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from foreshard.lake.metadata import parse_metadata
from foreshard.settings import Settings


@dataclass(frozen=True)
class Watermark:
    """`hour`: all landing hours before it are aggregated, None if none is. `version` −1 means there is no table."""

    hour: datetime | None
    version: int


def watermark(settings: Settings, table: str) -> Watermark:
    try:
        opened = DeltaTable(settings.table(table))
    except TableNotFoundError:
        return Watermark(None, -1)
    version = opened.version()
    for commit in opened.history(50):
        complete = parse_metadata(commit.get("userMetadata")).get("complete_to")
        if complete:
            return Watermark(datetime.fromisoformat(complete), version)
    return Watermark(None, version)
