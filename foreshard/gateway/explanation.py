"""Where a query of an entity could go, replica by replica, for people."""

from __future__ import annotations

from datetime import datetime

from foreshard.gateway.line_up import Asked, Seat, line_up, turns_from
from foreshard.gateway.query import Query
from foreshard.gateway.roster import Roster


def explained(
    roster: Roster, query: Query, now: datetime, minimum_version: int | None, clock: float
) -> list[dict[str, object]]:
    """Every replica of the query's shard: its score, and why it would be left out, if it would. Changes no later choice."""
    if not roster.begin <= now < roster.end:
        roster.turn_to(now)
    key = roster.table.key(query.entity_id)
    seats = roster.seats(key, clock)
    asked = Asked(query.range_start, None, frozenset())
    left_out = line_up(roster.table.shard_of(query.entity_id), seats, asked, clock, turns_from(0.0)).setting.left_out
    return [
        {
            "node_id": seat.node_id,
            "shard_id": seat.shard_id,
            "weight": seat.candidate.weight,
            "covers_from": seat.candidate.covers_from.date().isoformat() if seat.candidate.covers_from else None,
            "applied_version": seat.activity.applied.get(seat.shard_id),
            "in_flight": seat.activity.in_flight,
            "score": roster.score(seat, clock),
            "left_out": left_out.get(seat.node_id) or _behind(seat, minimum_version),
        }
        for seat in seats
    ]


def _behind(seat: Seat, minimum_version: int | None) -> str:
    if minimum_version is None or seat.version >= minimum_version:
        return ""
    return f"not known to be at version {minimum_version}"
