"""How far a product reaches: the newest complete hour and the version that says so, read without Spark."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from foreshard.lake import log
from foreshard.settings import Settings


@dataclass(frozen=True)
class Watermark:
    """`hour`: all landing hours before it are aggregated, None if none is. `version` −1 means there is no table."""

    hour: datetime | None
    version: int


def watermark(settings: Settings, table: str) -> Watermark:
    opened = log.opened(settings.table(table))
    if opened is None:
        return Watermark(None, -1)
    complete = log.newest_commit(opened, "complete_to").get("complete_to")
    return Watermark(datetime.fromisoformat(complete) if complete else None, opened.version())
