"""The mechanics of a replay, on scenes small enough to work out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from foreshard.errors import ForeshardError
from foreshard.placement.cluster import FULL, HOT, Holdings
from foreshard.replay.defaults import DEFAULTS
from foreshard.replay.load import Load
from foreshard.replay.policy import Known, State, Wish
from foreshard.replay.pool import Pool, drawn_up
from foreshard.replay.simulation import simulate

# Copies of 600 bytes take one step.
BY_HAND = replace(DEFAULTS, copy_bytes_per_second=10.0, boot_seconds=120, verify_seconds=60, replicas=1, max_replicas=2)


def pool(shards: int, bytes_full: float = 600.0, *, nodes: int = 3, capacity: float = 10.0) -> Pool:
    return drawn_up(capacity, nodes, np.arange(shards, dtype=np.int64), np.full(shards, bytes_full), BY_HAND)


def wish(nodes: list[int], *rows: dict[int, int]) -> Wish:
    """Rows: node → kind of each shard's replicas, of equal weight."""
    node, kind, weight = np.full((len(rows), 2), -1, np.int32), np.zeros((len(rows), 2), np.int8), np.zeros((len(rows), 2))
    for shard, row in enumerate(rows):
        for place, (n, k) in enumerate(row.items()):
            node[shard, place], kind[shard, place], weight[shard, place] = n, k, 1.0 / len(row)
    return Wish(np.isin(np.arange(3), nodes), Holdings(node, kind, weight))


class Told:
    """Wishes for given seconds."""

    name = "told"

    def __init__(self, first: Wish, **wishes: Wish) -> None:
        self.begin = first
        self.wishes = {int(second.removeprefix("at_")): w for second, w in wishes.items()}

    def first(self, known: Known, pool: Pool) -> Wish:
        return self.begin

    def decide(self, known: Known, state: State, pool: Pool) -> Wish | None:
        return self.wishes.get(known.second)


def test_what_is_above_a_nodes_capacity_is_overload_though_the_pool_has_room():
    rates = np.array([[0.0, 0.0], [14.0, 2.0], [4.0, 2.0]])
    load = Load(rates, 60, 1)
    outcome = simulate(load, pool(2), Told(wish([0, 1], {0: FULL}, {1: FULL}))).outcome
    assert outcome.requests == (14 + 2 + 4 + 2) * 60
    assert outcome.overload_request_share == pytest.approx(4 / 22)
    assert outcome.overload_interval_share == 0.5
    assert outcome.timeline.overloaded.tolist() == [240.0, 0.0]
    assert outcome.imbalance_p95 == pytest.approx(14 / 8)
    assert outcome.node_hours == pytest.approx(2 * 2 / 60)
    assert (outcome.moves, outcome.bytes_moved, outcome.reconfigurations) == (0, 0.0, 0)


def test_a_node_serves_once_it_has_booted_and_its_copy_is_there_and_verified():
    # Wished at 300: boots until 420, copies 600 bytes in the step until 480, is verified at 540 and serves from then on. The
    # step of the copy takes a tenth of both nodes' capacity, which is 9 of the source's.
    load = Load(np.vstack([np.zeros(2), np.full((15, 2), 6.0)]), 60, 1)
    one, two = wish([0], {0: FULL}, {0: FULL}), wish([0, 1], {0: FULL}, {1: FULL})
    outcome = simulate(load, pool(2), Told(one, at_300=two)).outcome
    assert outcome.timeline.overloaded.tolist() == [120.0] * 7 + [180.0] + [120.0] + [0.0] * 6
    assert outcome.timeline.nodes.tolist() == [1.0] * 5 + [2.0] * 10
    assert outcome.timeline.capacity.tolist() == [10.0] * 7 + [18.0] + [20.0] * 7
    assert (outcome.moves, outcome.bytes_moved, outcome.reconfigurations) == (1, 600.0, 1)


def test_a_node_that_is_to_leave_is_paid_until_all_that_it_held_serves_elsewhere():
    # 1,200 bytes leave node 1 from 300 on: two steps of copying and one of verifying, so it goes at 480.
    load = Load(np.vstack([np.zeros(1), np.full((15, 1), 6.0)]), 60, 1)
    outcome = simulate(load, pool(1, 1200.0), Told(wish([0, 1], {1: FULL}), at_300=wish([0], {0: FULL}))).outcome
    assert outcome.timeline.nodes.tolist() == [2.0] * 8 + [1.0] * 7
    assert outcome.timeline.moved.tolist() == [0.0] * 5 + [600.0] * 2 + [0.0] * 8


def test_copies_between_the_same_nodes_share_the_bandwidth_and_others_go_side_by_side():
    load = Load(np.vstack([np.zeros(2), np.full((15, 2), 1.0)]), 60, 1)
    same = Told(wish([0, 1, 2], {0: FULL}, {0: FULL}), at_300=wish([1], {1: FULL}, {1: FULL}))
    apart = Told(wish([0, 1, 2], {0: FULL}, {1: FULL}), at_300=wish([1, 2], {1: FULL}, {2: FULL}))
    assert simulate(load, pool(2), same).outcome.timeline.moved[5:8].tolist() == [600.0, 600.0, 0.0]
    assert simulate(load, pool(2), apart).outcome.timeline.moved[5:8].tolist() == [1200.0, 0.0, 0.0]


def test_a_hot_replica_copies_only_its_days_and_answers_only_for_them():
    load = Load(np.vstack([np.zeros(1), np.full((15, 1), 10.0)]), 60, 1)
    hot = simulate(load, pool(1), Told(wish([0, 1], {0: FULL}), at_300=wish([0, 1], {0: FULL, 1: HOT}))).outcome
    assert hot.bytes_moved == pytest.approx(600 * 7 / 30)
    # Node 0 is left with all the older queries (2) and half of the recent ones (4), node 1 has 4: 6 / 5 of the mean.
    assert hot.imbalance_p95 == pytest.approx(2.0)
    later = simulate(load, pool(1), Told(wish([0, 1], {0: FULL, 1: HOT}))).outcome
    assert later.imbalance_p95 == pytest.approx(6 / 5)
    wider = Told(wish([0, 1], {0: FULL, 1: HOT}), at_300=wish([0, 1], {0: FULL, 1: FULL}))
    assert simulate(load, pool(1), wider).outcome.bytes_moved == pytest.approx(600 * 23 / 30)


def test_a_copy_under_way_that_is_still_wanted_goes_on_and_one_that_is_not_is_given_up():
    load = Load(np.vstack([np.zeros(2), np.full((25, 2), 1.0)]), 60, 1)
    start = wish([0, 1, 2], {0: FULL}, {0: FULL})
    first = wish([0, 1, 2], {1: FULL}, {0: FULL})
    goes_on = Told(start, at_300=first, at_600=wish([0, 1, 2], {1: FULL}, {2: FULL}))
    outcome = simulate(load, pool(2, 6000.0), goes_on).outcome
    assert (outcome.bytes_moved, outcome.moves) == (12_000.0, 2)
    given_up = simulate(load, pool(2, 6000.0), Told(start, at_300=first, at_600=start)).outcome
    assert (given_up.bytes_moved, given_up.moves, given_up.reconfigurations) == (3000.0, 0, 2)


def test_a_booting_node_that_is_no_longer_wanted_is_given_back_at_once():
    slow = replace(pool(1), defaults=replace(BY_HAND, boot_seconds=900))
    load = Load(np.vstack([np.zeros(1), np.full((15, 1), 1.0)]), 60, 1)
    one = wish([0], {0: FULL})
    outcome = simulate(load, slow, Told(one, at_300=wish([0, 1], {1: FULL}), at_600=one)).outcome
    assert outcome.timeline.nodes.tolist() == [1.0] * 5 + [2.0] * 5 + [1.0] * 5


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (wish([0], {1: FULL}), "on a node that it does not want"),
        (wish([0], {0: HOT}), "full replica"),
        (Wish(np.ones(2, np.bool_), wish([0], {0: FULL}).held), "of 3 nodes"),
        (Wish(wish([0], {0: FULL}).nodes, Holdings(*wish([0], {0: FULL}).held[:2], np.array([[0.5, 0.0]]))), "sum to 1"),
    ],
)
def test_a_wish_that_no_pool_can_carry_out_is_refused(bad: Wish, says: str):
    load = Load(np.ones((3, 1)), 60, 1)
    with pytest.raises(ForeshardError, match=says):
        simulate(load, pool(1), Told(bad))


@pytest.mark.parametrize(
    "load",
    [Load(np.ones((3, 1)), 90, 1), Load(np.ones((3, 1)), 60, 3), Load(np.ones((3, 2)), 60, 1), Load(-np.ones((3, 1)), 60, 1)],
)
def test_a_load_that_cannot_be_replayed_is_refused(load: Load):
    with pytest.raises(ForeshardError):
        simulate(load, pool(1), Told(wish([0], {0: FULL})))
