"""Which segments make up the next chunk of a copy: the newest days of each shard first, as many as a budget of bytes allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

Sizes = Mapping[int, Mapping[date, int]]  # shard → day → bytes


@dataclass(frozen=True, slots=True)
class Span:
    """Days of a shard, from `first` on to before `end`, None where there is no bound; `is_last`: nothing is left after it."""

    shard_id: int
    first: date | None
    end: date | None
    is_last: bool = True
    bytes: int = 0


def next_chunk(left: Iterable[Span], sizes: Sizes, budget: float) -> list[Span]:
    """What to copy of these spans, in their order, until it comes to `budget` bytes: a segment at least; O(segments).

    Of each span the newest days; what is left of the last one are its older days.
    """
    chunk: list[Span] = []
    spent = 0
    for span in left:
        if chunk and spent >= budget:
            break
        part = _newest(span, sizes.get(span.shard_id, {}), budget - spent)
        chunk.append(part)
        spent += part.bytes
    return chunk


def _newest(span: Span, sizes: Mapping[date, int], budget: float) -> Span:
    days: Sequence[date] = sorted((day for day in sizes if _is_within(span, day)), reverse=True)
    spent = 0
    for number, day in enumerate(days, 1):
        spent += sizes[day]
        if spent >= budget and number < len(days):
            return Span(span.shard_id, day, span.end, False, spent)
    return Span(span.shard_id, span.first, span.end, True, spent)


def _is_within(span: Span, day: date) -> bool:
    return (span.first is None or day >= span.first) and (span.end is None or day < span.end)
