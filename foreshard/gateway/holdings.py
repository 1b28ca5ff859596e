"""What a serving table says it holds, from the metadata of its own commits (docs/architecture.md, Holdings)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from typing import Any

from deltalake import DeltaTable


@dataclass(frozen=True, slots=True)
class Holding:
    """One held shard: every change of the source up to `applied_version` is in; `covers_from` None is all time."""

    applied_version: int
    covers_from: date | None


def read(table: DeltaTable) -> dict[int, Holding]:
    """The holdings at the table's loaded version: those of the newest commit up to it that names them; none if none does.

    Commits by others, such as OPTIMIZE, carry none and change none. Spark's `userMetadata` and delta-rs's custom metadata
    of that name appear alike in the history.
    """
    for limit in (10, 100, None):
        for commit in table.history(limit):
            found = _parse(commit.get("userMetadata")) if commit.get("version", 0) <= table.version() else None
            if found is not None:
                return found
    return {}


def _parse(text: Any) -> dict[int, Holding] | None:
    try:
        return {
            int(shard): Holding(
                int(entry["applied_version"]), date.fromisoformat(entry["covers_from"]) if entry["covers_from"] else None
            )
            for shard, entry in json.loads(text)["holdings"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
