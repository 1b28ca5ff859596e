"""What a serving table holds, as its own newest commit says: per shard the source version applied and the first day covered.

Data and holdings change in one commit, so that a reader never sees one without the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

KEY = "holdings"
SOURCE_TABLE = "source_table"
UNKNOWN_VERSION = -1


@dataclass(frozen=True, slots=True)
class Holding:
    """Every change of the source up to `applied_version`, from the day `covers_from` on (None: all days), is in the copy.

    UNKNOWN_VERSION: the source was made anew since, so that no version of it is known to be in the copy.
    """

    applied_version: int
    covers_from: date | None = None


Holdings = Mapping[int, Holding]


def to_metadata(holdings: Holdings, source_version: int, source_table: str = "") -> dict[str, Any]:
    """The commit metadata of a serving table that holds this afterwards; `source_table` is the id of the table copied from."""
    return {
        "source_version": source_version,
        SOURCE_TABLE: source_table,
        KEY: {
            str(shard): {
                "applied_version": h.applied_version,
                "covers_from": h.covers_from.isoformat() if h.covers_from else None,
            }
            for shard, h in sorted(holdings.items())
        },
    }


def from_metadata(said: Mapping[str, Any]) -> dict[int, Holding]:
    """The holdings in a commit's metadata; empty if it names none."""
    return {
        int(shard): Holding(int(h["applied_version"]), date.fromisoformat(h["covers_from"]) if h["covers_from"] else None)
        for shard, h in said.get(KEY, {}).items()
    }


def with_copies(holdings: Holdings, copies: Holdings) -> dict[int, Holding]:
    """The holdings after these shards were copied anew."""
    return {**holdings, **copies}


def without(holdings: Holdings, shard_ids: Iterable[int]) -> dict[int, Holding]:
    """The holdings after these shards were retired."""
    gone = set(shard_ids)
    return {shard: h for shard, h in holdings.items() if shard not in gone}
