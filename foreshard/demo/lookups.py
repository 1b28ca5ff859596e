"""The demo's queries: people who look a flight up. Drawn with a seed, because nobody logged the real ones.

How many is a Poisson draw around `expected_lookups`: one per few seats over the eight hours before the scheduled
time, rising linearly towards it, and more for as long as the flight is late. Every hour has its own generator, so what an hour
holds does not depend on which other hours are drawn. Where each query went is drawn too: history was routed by the hash layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import numpy.typing as npt

from foreshard.demo.departures import CANCELLED, OPERATIONS, Departures
from foreshard.errors import ForeshardError
from foreshard.hashing import entity_slot
from foreshard.model import Layout, Node

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Times = npt.NDArray[np.datetime64]

SEATS_PER_LOOKUP = 4.0
LEAD_HOURS = 8.0
LATE_HOURS = 6.0  # nobody looks a flight up for longer than this after its scheduled time
CANCELLED_HOURS = 3.0  # how long a cancelled flight is still looked up
AGE_SHARES = (0.80, 0.15, 0.05)  # recent, months, older
_DAYS_ASKED = ((1, 6), (14, 80), (120, 300))  # per age class, inclusive
_SLOWER = (1.0, 1.5, 2.2)  # latency factor per age class
_HOT_PROFILE = (0.5, 0.75, 1.0, 1.0, 0.9, 0.6)
_HOUR = np.timedelta64(1, "h")


@dataclass(frozen=True)
class HotSpell:
    """One flight looked up by far more people than its seats: `per_hour` queries at the spell's height, six hours long."""

    departure: int  # row of Departures
    starts: tuple[np.datetime64, ...]  # the first hour of each spell, UTC
    per_hour: float

    def expected(self, hour: np.datetime64) -> float:
        """Additional queries expected in this hour."""
        for start in self.starts:
            step = int((hour - start) / _HOUR)
            if 0 <= step < len(_HOT_PROFILE):
                return self.per_hour * _HOT_PROFILE[step]
        return 0.0


def thanksgiving_spell(departures: Departures, evenings: Sequence[date], per_hour: float) -> HotSpell:
    """The largest aircraft to leave in the early evening of 27 November 2013, hot in the six hours up to its departure hour."""
    evening = (departures.scheduled >= np.datetime64("2013-11-27T22")) & (departures.scheduled < np.datetime64("2013-11-28T00"))
    rows = np.flatnonzero(evening)
    chosen = int(rows[np.lexsort((departures.record_id[rows], -departures.seats[rows]))[0]])
    hour = departures.scheduled[chosen].astype("datetime64[h]").item().hour
    ends = [np.datetime64(datetime.combine(day, time(hour)), "h") for day in evenings]
    return HotSpell(chosen, tuple(end - (len(_HOT_PROFILE) - 1) * _HOUR for end in ends), per_hour)


def expected_lookups(
    departures: Departures, hour: np.datetime64, seats_per_lookup: float = SEATS_PER_LOOKUP
) -> tuple[Integers, Floats]:
    """The departures looked up within the hour (rows) and how many lookups of each are expected."""
    earliest = hour - np.timedelta64(int(LATE_HOURS), "h")
    latest = hour + np.timedelta64(1 + int(LEAD_HOURS), "h")
    first, last = np.searchsorted(departures.scheduled, np.array([earliest, latest], "datetime64[s]"))
    rows = np.arange(first, last)
    until = _lookups_until(departures, rows, np.array([hour, hour + _HOUR], "datetime64[s]"))
    expected = (until[1] - until[0]) / seats_per_lookup
    return rows[expected > 0], expected[expected > 0]


def _lookups_until(departures: Departures, rows: Integers, moments: Times) -> Floats:
    """Lookups of each departure up to each moment, shape (moments, rows): the integral of a rate that is linear in time.

    Scaled so that a departure has as many as it has seats by its scheduled time.
    """
    after = _hours(moments[:, None] - departures.scheduled[None, rows])
    before = np.clip(1 + after / LEAD_HOURS, 0, 1) ** 2
    late = np.clip(after, 0, _late_hours(departures, rows)[None, :])
    # The rate goes on from where it stood at the scheduled time, and half as much again for every hour of delay.
    total: Floats = departures.seats[None, rows] * (before + 2 / LEAD_HOURS * (late + late**2 / 4))
    return total


def _late_hours(departures: Departures, rows: Integers) -> Floats:
    late = np.clip(_hours(departures.event_time[rows] - departures.scheduled[rows]), 0, LATE_HOURS)
    return np.where(departures.operation[rows] == OPERATIONS.index(CANCELLED), CANCELLED_HOURS, late)


def _hours(span: npt.NDArray[np.timedelta64]) -> Floats:
    hours: Floats = span.astype("timedelta64[s]").astype(np.float64) / 3600
    return hours


@dataclass(frozen=True)
class QueryHour:
    """One value per query of an hour, ordered by time; `departure` is a row of Departures, `node` an index into the nodes."""

    departure: Integers
    event_time: Times  # milliseconds
    days_asked: Integers
    age: Integers  # index into recent, months, older
    operation: Integers  # index into OPERATIONS
    node: Integers
    latency_ms: Floats
    bytes: Integers
    load_after: Floats


class LookupDraw:
    """Draws the queries of any hour: the same ones for the same departures, layout, nodes and seed. O(queries) per hour."""

    def __init__(
        self,
        departures: Departures,
        hot: HotSpell,
        layout: Layout,
        nodes: Sequence[Node],
        slot_bits: int,
        seed: int,
        seats_per_lookup: float = SEATS_PER_LOOKUP,
    ) -> None:
        self.departures, self.hot, self.seed, self.seats_per_lookup = departures, hot, seed, seats_per_lookup
        entities, self._entity = np.unique(departures.entity, return_inverse=True)
        self._slot = np.array([entity_slot(str(e), slot_bits) for e in entities])
        self._capacity = np.array([n.capacity for n in nodes])
        self._replica, self._cumulative = _replica_choice(layout, nodes, 1 << slot_bits)

    def slot_of(self, rows: Integers) -> Integers:
        """The slot of each departure's flight."""
        slots: Integers = self._slot[self._entity[rows]]
        return slots

    def expected(self, hour: np.datetime64) -> tuple[Integers, Floats]:
        """As `expected_lookups`, with the hot spell as one more row at the end when it is on."""
        rows, expected = expected_lookups(self.departures, hour, self.seats_per_lookup)
        extra = self.hot.expected(hour)
        if extra:
            rows, expected = np.append(rows, self.hot.departure), np.append(expected, extra)
        return rows, expected

    def hour(self, hour: np.datetime64) -> QueryHour:
        """The queries of one UTC hour."""
        generator = np.random.default_rng([self.seed, int(hour.astype("datetime64[h]").astype(np.int64))])
        rows, expected = self.expected(hour)
        rows = np.repeat(rows, generator.poisson(expected))
        event_time = self._moments(generator, rows, hour)
        order = np.argsort(event_time, kind="stable")
        rows, event_time = rows[order], event_time[order]
        count = len(rows)
        node = self._nodes(generator, rows)
        load = np.bincount(node, minlength=len(self._capacity)) / 3600.0
        age = generator.choice(3, size=count, p=AGE_SHARES)
        low, high = np.array(_DAYS_ASKED).T
        days = generator.integers(low[age], high[age] + 1)
        # A pipeline near its capacity answers slower, as a queue does; spread is log-normal.
        busy = 1 / (1 - np.clip(load / self._capacity, 0, 0.9))
        latency = 8.0 * busy[node] * np.array(_SLOWER)[age] * generator.lognormal(0, 0.4, count)
        size = 180 + 45 * days + generator.integers(0, 40, count)
        operation = self._operations(generator, rows, event_time)
        return QueryHour(rows, event_time, days, age, operation, node, np.round(latency, 2), size, np.round(load[node], 6))

    def _moments(self, generator: np.random.Generator, rows: Integers, hour: np.datetime64) -> Times:
        """A moment within the hour for each query, while its flight is looked up; milliseconds."""
        scheduled = self.departures.scheduled[rows]
        ends = scheduled + (_late_hours(self.departures, rows) * 3600).astype("timedelta64[s]")
        # The spell's crowd does not stop when the flight has left.
        hot = (rows == self.hot.departure) & (self.hot.expected(hour) > 0)
        low = np.where(hot, hour, np.maximum(hour, scheduled - np.timedelta64(int(LEAD_HOURS), "h")))
        high = np.where(hot, hour + _HOUR, np.minimum(hour + _HOUR, ends))
        span = (high - low).astype("timedelta64[ms]").astype(np.float64)
        moments: Times = low.astype("datetime64[ms]") + (generator.random(len(rows)) * span).astype("timedelta64[ms]")
        return moments

    def _nodes(self, generator: np.random.Generator, rows: Integers) -> Integers:
        slot = self.slot_of(rows)
        position = (generator.random(len(rows))[:, None] > self._cumulative[slot]).sum(axis=1)
        nodes: Integers = self._replica[slot, position]
        return nodes

    def _operations(self, generator: np.random.Generator, rows: Integers, event_time: Times) -> Integers:
        """What is asked for: mostly `departed` before the scheduled time, mostly `departed_late` once it has passed."""
        overdue = event_time > self.departures.scheduled[rows]
        first, second = np.where(overdue, 0.25, 0.80), np.where(overdue, 0.92, 0.95)
        uniform = generator.random(len(rows))
        return (uniform > first).astype(np.int64) + (uniform > second)


def _replica_choice(layout: Layout, nodes: Sequence[Node], shards: int) -> tuple[Integers, Floats]:
    """Per shard its nodes' indices and the cumulative weights, both of shape (shards, most replicas), padded."""
    index = {n.node_id: i for i, n in enumerate(nodes)}
    held = [[r for r in layout.of_shard(s) if r.weight > 0] for s in range(shards)]
    for shard, replicas in enumerate(held):
        unknown = [r.node_id for r in replicas if r.node_id not in index]
        if unknown or not replicas:
            problem = f"is on unknown node {unknown[0]}" if unknown else "has no replica with a weight above 0"
            raise ForeshardError(f"epoch {layout.epoch}: shard {shard} {problem}; pass the nodes that the layout was made for")
    widest = max(len(replicas) for replicas in held)
    node = np.zeros((shards, widest), dtype=np.int64)
    cumulative = np.ones((shards, widest))
    for shard, replicas in enumerate(held):
        weights = np.array([r.weight for r in replicas])
        node[shard, : len(replicas)] = [index[r.node_id] for r in replicas]
        cumulative[shard, : len(replicas) - 1] = np.cumsum(weights / weights.sum())[:-1]
    return node, cumulative


def hours_between(start: datetime, end: datetime) -> list[np.datetime64]:
    """The whole UTC hours start ≤ h < end. Raises ForeshardError if either is naive or not a whole hour."""
    for moment in (start, end):
        if moment.tzinfo is None or moment.astimezone(UTC) != moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0):
            raise ForeshardError(f"the demo lands whole UTC hours; {moment} is not one")
    first = np.datetime64(start.astimezone(UTC).replace(tzinfo=None), "h")
    return [first + i * _HOUR for i in range(int((end - start) / timedelta(hours=1)))]
