"""What a serving table holds, as its own newest commit says: per shard the source version applied and the first day covered,
and how far the copies have come that are being made.

Data and holdings change in one commit, so that a reader never sees one without the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from typing import Any

KEY = "holdings"
SOURCE_TABLE = "source_table"
COPIES = "copies"
UNKNOWN_VERSION = -1


@dataclass(frozen=True, slots=True)
class Holding:
    """Every change of the source up to `applied_version`, from the day `covers_from` on (None: all days), is in the copy.

    UNKNOWN_VERSION: the source was made anew since, so that no version of it is known to be in the copy.
    """

    applied_version: int
    covers_from: date | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """A copy of a shard that is being made, or was, under a `transaction`: of the source's `version`, from `covers_from` on.

    The newest days come first: those from `copied_from` on are there, or all once it `is_whole`. `rows` and `bytes` are of what
    was written so far. A shard is no holding before its copy is whole. A hot replica that is made wider stays one meanwhile; if
    it has followed the source to another version by then, it stays as it is until it is next brought up to the source.
    `widens`: the first day that it had as a hot replica.
    """

    transaction: str
    version: int
    covers_from: date | None
    copied_from: date | None
    is_whole: bool
    rows: int
    bytes: int
    widens: date | None = None


Holdings = Mapping[int, Holding]


@dataclass(frozen=True)
class Contents:
    """All that a serving table's newest commit says of it; `source_table` is the id of the table copied from."""

    holdings: Holdings = field(default_factory=dict)
    source_table: str = ""
    copies: Mapping[int, Progress] = field(default_factory=dict)

    @property
    def widened(self) -> dict[int, Holding]:
        """The hot replicas whose older days are there, at another version: what each then holds, at the older of the two."""
        found = {}
        for shard, copy in self.copies.items():
            held = self.holdings.get(shard)
            if held and copy.is_whole and reaches_beyond(copy.covers_from, held.covers_from):
                found[shard] = Holding(min(held.applied_version, copy.version), copy.covers_from)
        return found

    @property
    def unfinished(self) -> dict[int, Progress]:
        """The copies that are not whole."""
        return {shard: copy for shard, copy in self.copies.items() if not copy.is_whole}

    def metadata(self, source_version: int) -> dict[str, Any]:
        """As the commit that makes it so carries it; only copies of shards that are held or being copied are kept."""
        said = to_metadata(self.holdings, source_version, self.source_table)
        kept = {str(s): _as_json(c) for s, c in sorted(self.copies.items()) if s in self.holdings or not c.is_whole}
        return said | ({COPIES: kept} if kept else {})

    def without(self, shard_ids: Iterable[int]) -> Contents:
        """After these shards were retired, whole copies or not."""
        gone = set(shard_ids)
        copies = {shard: copy for shard, copy in self.copies.items() if shard not in gone}
        return replace(self, holdings=without(self.holdings, gone), copies=copies)


def contents(said: Mapping[str, Any]) -> Contents:
    """What a commit's metadata says."""
    copies = {int(shard): _from_json(copy) for shard, copy in said.get(COPIES, {}).items()}
    return Contents(from_metadata(said), str(said.get(SOURCE_TABLE, "")), copies)


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


def reaches_beyond(covers_from: date | None, other: date | None) -> bool:
    """Whether a copy from `covers_from` on has days that one from `other` on lacks; None is from the very first day."""
    return other is not None and (covers_from is None or covers_from < other)


def with_copies(holdings: Holdings, copies: Holdings) -> dict[int, Holding]:
    """The holdings after these shards were copied anew."""
    return {**holdings, **copies}


def without(holdings: Holdings, shard_ids: Iterable[int]) -> dict[int, Holding]:
    """The holdings after these shards were retired."""
    gone = set(shard_ids)
    return {shard: h for shard, h in holdings.items() if shard not in gone}


def _as_json(copy: Progress) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in asdict(copy).items()}


def _from_json(said: Mapping[str, Any]) -> Progress:
    days = {name: said[name] and date.fromisoformat(said[name]) for name in ("covers_from", "copied_from", "widens")}
    return Progress(**{**said, **days})
