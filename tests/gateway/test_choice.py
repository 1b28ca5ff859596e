"""What the choice weighs: trust in the forecast, corrections, slow starts, outliers; many at once choose as one does."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import ForeshardError
from foreshard.gateway.activity import EJECT_SECONDS, NodeActivity, Outcome
from foreshard.gateway.batch import two_of
from foreshard.gateway.decision import Decision, Setting, Verdict
from foreshard.gateway.line_up import Holder, LineUp, Seat
from foreshard.gateway.query import Query
from foreshard.gateway.router import SLOW_START_SECONDS, Router
from foreshard.gateway.routing_table import Candidate
from foreshard.hashing import entity_slot
from foreshard.learning.skill import measured_skill
from foreshard.model import Node, NodeState, Replica
from foreshard.routing.snapshot import PredictedLoad, Snapshot

NOW = datetime(2013, 11, 28, 5, 30, tzinfo=UTC)
QUERY = Query("e", "s", "o", NOW - timedelta(days=1), NOW)
SLOT_BITS = 2
SLOTS = 1 << SLOT_BITS


class Clock:
    """Monotonic seconds that move only when told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def snapshot(*node_ids: str, epoch: int = 1, predicted: tuple[PredictedLoad, ...] = ()) -> Snapshot:
    nodes = tuple(Node(n, 10.0, url=f"http://{n}") for n in node_ids)
    replicas = tuple(Replica(shard, n, 1.0 / len(node_ids)) for shard in range(SLOTS) for n in node_ids)
    return Snapshot("usage", epoch, epoch - 1, SLOT_BITS, 3600, 7, 90, nodes, replicas, (), predicted)


def router_with(taken: Snapshot, clock: Clock | None = None) -> Router:
    router = Router(seed=7, monotonic=clock or Clock())
    assert router.adopt(taken)
    return router


def chosen(router: Router, times: int = 40) -> set[str]:
    return {router.route(QUERY, now=NOW).node_id for _ in range(times)}


def ask(router: Router, node_id: str, outcome: Outcome) -> None:
    decision = Decision(Verdict.ROUTED, 0, router.epoch, node_id)
    router.started(decision)
    router.finished(decision, outcome)


def test_a_new_replica_comes_to_its_weight_slowly_and_those_of_the_first_epoch_at_once() -> None:
    clock = Clock()
    router = router_with(snapshot("a"), clock)
    router.adopt(snapshot("a", "b", epoch=2))
    assert chosen(router) == {"a"}
    clock.seconds = SLOW_START_SECONDS / 2
    b = next(c.score for c in router.route(QUERY, now=NOW).candidates if c.node_id == "b")
    a = next(c.score for c in router.route(QUERY, now=NOW).candidates if c.node_id == "a")
    assert b / a == pytest.approx(2.0, rel=0.05)
    clock.seconds = SLOW_START_SECONDS + 1.0
    assert chosen(router) == {"a", "b"}
    assert chosen(router_with(snapshot("a", "b"))) == {"a", "b"}


@pytest.mark.parametrize("restart", ["address", "death"])
def test_a_node_that_was_started_again_starts_slowly(restart: str) -> None:
    clock = Clock()
    router = router_with(snapshot("a", "b"), clock)
    if restart == "address":
        router.observe("b", url="http://elsewhere")
    else:
        router.observe("b", state=NodeState.DEAD)
        router.observe("b", state=NodeState.ACTIVE)
    assert chosen(router) == {"a"}
    clock.seconds = SLOW_START_SECONDS + 1.0
    assert chosen(router) == {"a", "b"}


def test_hearing_the_same_of_a_node_again_changes_nothing() -> None:
    router = router_with(snapshot("a", "b"))
    router.observe("b", url="http://b", state=NodeState.ACTIVE, applied={0: 3})
    router.observe("b", url="http://b", state=NodeState.ACTIVE, applied={0: 4})
    assert chosen(router) == {"a", "b"}


def test_a_node_that_fails_often_but_never_thrice_in_a_row_is_left_out_for_a_while() -> None:
    clock = Clock()
    router = router_with(snapshot("a", "b", "c"), clock)
    for i in range(60):
        for node_id in ("a", "b", "c"):
            ask(router, node_id, Outcome(failed=node_id == "a" and i % 2 == 0))
    assert chosen(router) == {"b", "c"}
    clock.seconds = EJECT_SECONDS + 1.0
    assert "a" in chosen(router)


def test_a_node_that_failed_is_asked_again_when_the_query_has_tried_all_others() -> None:
    router = router_with(snapshot("a", "b"))
    for _ in range(3):
        ask(router, "a", Outcome(failed=True))
    assert chosen(router) == {"b"}
    decision = router.route(QUERY, now=NOW, exclude=frozenset({"b"}))
    assert (decision.verdict, decision.node_id) == (Verdict.ROUTED, "a")
    assert router.route(QUERY, now=NOW, exclude=frozenset({"a", "b"})).verdict is Verdict.NO_REPLICA


def test_nobody_is_an_outlier_where_all_fail_alike() -> None:
    router = router_with(snapshot("a", "b", "c"))
    for i in range(60):
        for node_id in ("a", "b", "c"):
            ask(router, node_id, Outcome(failed=i % 2 == 0))
    assert chosen(router) == {"a", "b", "c"}


def test_a_node_that_is_much_slower_than_the_others_is_left_out() -> None:
    router = router_with(snapshot("a", "b", "c"))
    for _ in range(60):
        for node_id in ("a", "b", "c"):
            ask(router, node_id, Outcome(False, latency_seconds=0.5 if node_id == "a" else 0.01))
    assert chosen(router) == {"b", "c"}


def test_corrections_come_with_the_epoch_and_later_ones_take_their_place() -> None:
    router = router_with(dataclasses.replace(snapshot("a", "b"), corrections=(("a", 3.0),)))
    assert chosen(router) == {"b"}
    router.observe("a", correction=0.2)
    assert chosen(router) == {"a"}
    router.adopt(dataclasses.replace(snapshot("a", "b", epoch=2), corrections=(("a", 3.0),)))
    assert chosen(router) == {"a"}


@pytest.mark.parametrize(("skill", "expected"), [(1.0, {"b"}), (0.0, {"a", "b"})])
def test_predictions_count_as_far_as_they_are_trusted(skill: float, expected: set[str]) -> None:
    shard = entity_slot("e", SLOT_BITS)
    nodes = (Node("a", 10.0, url="http://a"), Node("b", 10.0, url="http://b"))
    replicas = (Replica(shard, "a", 0.5), Replica(shard, "b", 0.5), Replica((shard + 1) % SLOTS, "a"))
    coming = (PredictedLoad((shard + 1) % SLOTS, NOW.replace(minute=0), 9.0),)
    taken = Snapshot("usage", 1, 0, SLOT_BITS, 3600, 7, 90, nodes, replicas, (), coming, (), skill)
    assert chosen(router_with(taken)) == expected


def test_load_in_a_heartbeat_counts() -> None:
    router = router_with(snapshot("a", "b"))
    router.observe("a", load=8.0)
    assert chosen(router) == {"b"}


def test_a_decision_tells_its_candidates_and_its_reason_when_asked() -> None:
    router = router_with(snapshot("a", "b", "c"))
    router.observe("c", state=NodeState.DEAD)
    decision = router.route(QUERY, now=NOW)
    assert {score.node_id for score in decision.candidates} == {"a", "b"}
    assert decision.node_id == min(decision.candidates, key=lambda score: score.score).node_id
    shard = entity_slot("e", SLOT_BITS)
    assert decision.reason == f"the lower score of 2 sampled from 2 replicas of shard {shard}; left out: c is dead"


weights = st.lists(st.floats(0.001, 1.0), min_size=2, max_size=8)


def line(of: list[float], turn: float) -> LineUp:
    seats = []
    for i, weight in enumerate(of):
        node = Node(str(i), 1.0, url="http://x")
        seats.append(Seat(Candidate(0, node, weight, None), Holder(node, NodeActivity(), 1.0), weight))
    return LineUp(Setting(0, len(seats), {}), seats, None, iter([turn]))


@given(weights, st.floats(0.0, 1.0, exclude_max=True), st.floats(0.0, 1.0, exclude_max=True))
def test_many_at_once_sample_the_same_two_as_one_does(of: list[float], turn: float, drawn: float) -> None:
    made = line(of, turn)
    one, other = made.two(lambda: drawn)
    assert one is not other
    cumulative = np.concatenate([[0.5], np.array(made.cumulative), [0.5]])
    first, second = two_of(cumulative, 1, 1 + len(of), turn, drawn)
    assert (one.node_id, other.node_id) == (str(first - 1), str(second - 1))


def test_two_are_sampled_by_weight() -> None:
    of, draw, found = [0.5, 0.3, 0.2], random.Random(3), Counter[tuple[str, str]]()
    for _ in range(20_000):
        one, other = line(of, draw.random()).two(draw.random)
        found[one.node_id, other.node_id] += 1
    for (i, j), times in found.items():
        expected = of[int(i)] * of[int(j)] / (1.0 - of[int(i)])
        assert times / 20_000 == pytest.approx(expected, abs=0.015)


def test_many_queries_are_spread_over_those_that_can_answer_as_one_by_one() -> None:
    slots = np.random.default_rng(5).integers(0, SLOTS, 4000)
    router = router_with(snapshot("a", "b", "c"))
    router.observe("c", state=NodeState.DRAINING)
    router.observe("b", applied=dict.fromkeys(range(SLOTS), 5))
    both = router.route_many(slots, range_start=QUERY.range_start, now=NOW)
    shares = Counter(both.node_ids[i] for i in both.chosen)
    assert shares["a"] / shares["b"] == pytest.approx(1.0, abs=0.01)
    assert shares["c"] == 0
    at_version = router.route_many(slots, range_start=QUERY.range_start, now=NOW, minimum_version=5)
    assert {at_version.decision(i).node_id for i in range(100)} == {"b"}
    assert [at_version.decision(i).shard_id for i in range(100)] == slots[:100].tolist()
    nobody = router.route_many(slots, range_start=QUERY.range_start, now=NOW, minimum_version=6)
    assert set(nobody.chosen.tolist()) == {-1}


def test_numbers_that_are_no_slots_are_refused() -> None:
    with pytest.raises(ForeshardError, match="slots are 0 to 3"):
        router_with(snapshot("a")).route_many(np.array([4]), range_start=NOW, now=NOW)
    with pytest.raises(ForeshardError, match="no epoch"):
        Router().route_many(np.array([0]), range_start=NOW, now=NOW)


@pytest.mark.parametrize(
    ("predicted", "observed", "skill"),
    [
        ([1, 2, 3], [10, 20, 30], 1.0),
        ([1, 2, 3], [3, 2, 1], 0.0),
        ([1, 2, 3], [5, 5, 5], 0.0),
        ([0, 2, 4], [1, 2, 3], 0.5),
        ([], [], 1.0),
        ([2, 2], [1, 3], 1.0),
    ],
)
def test_skill_is_the_share_of_what_was_foreseen_that_came(predicted: list[float], observed: list[float], skill: float) -> None:
    assert measured_skill(predicted, observed) == pytest.approx(skill)


def queries(router: Router, draw: random.Random) -> list[Decision]:
    """Asks, starts and finishes many, some at once; what found no replica."""
    held, lost = list[Decision](), list[Decision]()
    for i in range(1500):
        query = dataclasses.replace(QUERY, entity_id=f"e{draw.randrange(40)}")
        decision = router.route(query, now=NOW, minimum_version=draw.choice([None, 0]))
        if decision.verdict is Verdict.NO_REPLICA:
            lost.append(decision)
            continue
        router.started(decision)
        held.append(decision)
        if len(held) > 5 or i % 3 == 0:
            failed = draw.random() < 0.3
            router.finished(held.pop(draw.randrange(len(held))), Outcome(failed, 0.01, draw.random(), 3))
    for decision in held:
        router.finished(decision, Outcome(False))
    return lost


def test_threads_that_route_start_finish_observe_and_adopt_at_once_lose_no_count() -> None:
    router = router_with(snapshot("a", "b", "c"))
    wrong: list[object] = []
    done = threading.Event()

    def work(seed: int) -> None:
        try:
            wrong.extend(queries(router, random.Random(seed)))
        except Exception as error:
            wrong.append(error)

    def disturb() -> None:
        epoch = 1
        while not done.is_set():
            epoch += 1
            router.adopt(snapshot("a", "b", "c", epoch=epoch))
            router.observe("a", url=f"http://a{epoch}", state=(NodeState.DRAINING, NodeState.ACTIVE)[epoch % 2], load=1.0)
            router.explain(QUERY, now=NOW)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    disturber = threading.Thread(target=disturb)
    for thread in (*workers, disturber):
        thread.start()
    for thread in workers:
        thread.join()
    done.set()
    disturber.join()
    assert wrong == []
    assert [row["in_flight"] for row in router.explain(QUERY, now=NOW)] == [0, 0, 0]
    assert router.is_drained(router.epoch + 1)
