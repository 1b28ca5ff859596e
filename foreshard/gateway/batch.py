"""Many queries' choices at once, by the rule of `foreshard.gateway.line_up`, compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foreshard.forecast.compiled import compiled
from foreshard.gateway.decision import Decision, Setting, Verdict
from foreshard.gateway.line_up import GOLDEN_RATIO, TELLS, LineUp, Seat

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """`chosen`, shape (queries,): which of `seats` each query goes to; −1: nobody, `Router.route` says why of such a query."""

    epoch: int
    chosen: Ints
    seats: Sequence[Seat]
    settings: Sequence[Setting]

    @property
    def node_ids(self) -> list[str]:
        """Of each of `seats`: `[batch.node_ids[i] for i in batch.chosen]` are the queries' nodes where i is not −1."""
        return [seat.node_id for seat in self.seats]

    def decision(self, query: int, cost: float = 1.0) -> Decision:
        """What `Router.started` and `finished` are to be told of a query that has a node."""
        at = int(self.chosen[query])
        seat = self.seats[at]
        predicted, setting = seat.holder.predicted, self.settings[at]
        return Decision(Verdict.ROUTED, seat.shard_id, self.epoch, seat.node_id, seat.url, predicted, cost, basis=setting)


def choose_many(
    epoch: int, lines: Sequence[tuple[int, LineUp]], slots: Ints, turns: Floats, draw: Callable[[], float]
) -> Batch:
    """`lines`: the line-up of each slot that occurs; `turns`, shape (all slots,), goes on from call to call.

    A query counts as in flight for the ones after it. Time O(queries · replicas of a shard + replicas of the line-ups).
    """
    seats = [seat for _, line in lines for seat in line.seats]
    settings = [line.setting for _, line in lines for _ in line.seats]
    begin, end = np.zeros((2, len(turns)), dtype=np.int64)
    at = 0
    for slot, line in lines:
        begin[slot], end[slot] = at, at + len(line.seats)
        at += len(line.seats)
    nodes = {node_id: i for i, node_id in enumerate(dict.fromkeys(seat.node_id for seat in seats))}
    by_node = {seat.node_id: seat.activity for seat in seats}
    chosen = np.empty(len(slots), dtype=np.int64)
    _choose(
        slots,
        begin,
        end,
        np.array([edge for _, line in lines for edge in line.cumulative], dtype=np.float64),
        np.array([seat.weight for seat in seats], dtype=np.float64),
        np.array([nodes[seat.node_id] for seat in seats], dtype=np.int64),
        np.array([by_node[node_id].factor for node_id in nodes], dtype=np.float64),
        np.array([by_node[node_id].in_flight for node_id in nodes], dtype=np.float64),
        turns,
        int(draw() * 2.0**53),
        chosen,
    )
    return Batch(epoch, chosen, seats, settings)


@compiled
def two_of(cumulative: Floats, begin: int, end: int, turn: float, drawn: float) -> tuple[int, int]:
    """As `LineUp.two`, of the seats from `begin` to `end`."""
    first = begin
    while cumulative[first] <= turn:
        first += 1
    before = cumulative[first - 1] if first > begin else 0.0
    width = cumulative[first] - before
    at = drawn * (1.0 - width)
    if at >= before:
        at += width
    second = begin
    while second < end and cumulative[second] <= at:
        second += 1
    if second in (first, end):
        second = first - 1 if first > begin else begin + 1
    return first, second


@compiled
def _choose(
    slots: Ints,
    begin: Ints,
    end: Ints,
    cumulative: Floats,
    weight: Floats,
    node: Ints,
    factor: Floats,
    in_flight: Floats,
    turns: Floats,
    seed: int,
    chosen: Ints,
) -> None:
    state = np.uint64(seed)
    for query in range(slots.shape[0]):
        slot = slots[query]
        first = begin[slot]
        if end[slot] - first > 1:
            # Splitmix64 (Steele, Lea and Flood 2014): a counter, well mixed.
            state += np.uint64(0x9E3779B97F4A7C15)
            mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed ^= mixed >> np.uint64(31)
            turns[slot] += GOLDEN_RATIO if turns[slot] + GOLDEN_RATIO < 1.0 else GOLDEN_RATIO - 1.0
            drawn = (mixed >> np.uint64(11)) * 2.0**-53
            first, second = two_of(cumulative, begin[slot], end[slot], turns[slot], drawn)
            one, other = node[first], node[second]
            # factor × (TELLS × in flight + 1) / weight, without the divisions
            if (
                factor[other] * (TELLS * in_flight[other] + 1.0) * weight[first]
                < factor[one] * (TELLS * in_flight[one] + 1.0) * weight[second]
            ):
                first = second
        elif end[slot] == first:
            first = -1
        if first >= 0:
            in_flight[node[first]] += 1.0
        chosen[query] = first
