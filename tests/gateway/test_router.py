"""The router's promises, over random snapshots and histories."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import ForeshardError
from foreshard.gateway.activity import EJECT_AFTER, EJECT_SECONDS, Outcome
from foreshard.gateway.decision import Decision, Verdict
from foreshard.gateway.query import Query
from foreshard.gateway.router import Router
from foreshard.hashing import entity_slot
from foreshard.model import Node, NodeState, Replica
from foreshard.routing.snapshot import PredictedLoad, Snapshot

NOW = datetime(2013, 11, 28, 5, 30, tzinfo=UTC)
NODES = ("a", "b", "c", "d")
SLOT_BITS = 2


class Clock:
    """Monotonic seconds that move only when told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def snapshot(
    nodes: tuple[Node, ...],
    replicas: tuple[Replica, ...],
    epoch: int = 1,
    isolated: tuple[tuple[str, int], ...] = (),
    predicted: tuple[PredictedLoad, ...] = (),
) -> Snapshot:
    return Snapshot("usage", epoch, epoch - 1, SLOT_BITS, 3600, 7, 90, nodes, replicas, isolated, predicted)


def node(node_id: str, capacity: float = 10.0, state: NodeState = NodeState.ACTIVE) -> Node:
    return Node(node_id, capacity, state, f"http://{node_id}")


def query(entity_id: str = "e", start: datetime = NOW - timedelta(days=1)) -> Query:
    return Query(entity_id, "s", "o", start, start + timedelta(hours=1))


def everywhere(*node_ids: str, weight: float = 1.0) -> tuple[Replica, ...]:
    return tuple(Replica(shard, n, weight) for shard in range(1 << SLOT_BITS) for n in node_ids)


def two_nodes(epoch: int = 1, **keywords: object) -> Snapshot:
    return snapshot((node("a"), node("b")), everywhere("a", "b"), epoch, **keywords)  # type: ignore[arg-type]


def router_with(taken: Snapshot, clock: Clock | None = None, **keywords: object) -> Router:
    router = Router(seed=7, monotonic=clock or Clock(), **keywords)  # type: ignore[arg-type]
    assert router.adopt(taken)
    return router


states = st.sampled_from(list(NodeState))
covers = st.one_of(st.none(), st.dates(date(2013, 10, 1), date(2013, 11, 28)))


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    nodes = tuple(node(n, draw(st.floats(0.1, 1e4)), draw(states)) for n in NODES)
    shards = [*range(1 << SLOT_BITS), 1 << SLOT_BITS]
    replicas = tuple(
        Replica(shard, n, draw(st.floats(1e-3, 10)), draw(covers)) for shard in shards for n in NODES if draw(st.booleans())
    )
    loads = tuple(PredictedLoad(s, datetime(2013, 11, 28, 5, tzinfo=UTC), draw(st.floats(0, 1e5))) for s in shards)
    return snapshot(nodes, replicas, isolated=(("hot", 1 << SLOT_BITS),), predicted=loads)


@given(
    taken=snapshots(),
    entity=st.sampled_from(["hot", "e1", "e2", "e3", "é"]),
    days=st.integers(0, 90),
    minimum=st.one_of(st.none(), st.integers(0, 5)),
    known=st.dictionaries(st.tuples(st.sampled_from(NODES), st.integers(0, 4)), st.integers(0, 5)),
    failing=st.sets(st.sampled_from(NODES)),
    exclude=st.frozensets(st.sampled_from(NODES)),
    seed=st.integers(0, 2**32),
)
def test_a_decision_never_breaks_a_promise(
    taken: Snapshot,
    entity: str,
    days: int,
    minimum: int | None,
    known: dict[tuple[str, int], int],
    failing: set[str],
    exclude: frozenset[str],
    seed: int,
) -> None:
    router = Router(seed=seed, monotonic=Clock())
    router.adopt(taken)
    for (node_id, shard), version in known.items():
        router.observe(node_id, applied={shard: version})
    for node_id in failing:
        fail(router, node_id)
    asked = query(entity, NOW - timedelta(days=days))
    decision = router.route(asked, now=NOW, minimum_version=minimum, exclude=exclude)

    slot = entity_slot(entity, SLOT_BITS)
    shards = {slot, 1 << SLOT_BITS} if entity == "hot" else {slot}
    alive = {n.node_id for n in taken.nodes if n.state is not NodeState.DEAD}
    holding = {
        (r.node_id, r.shard_id)
        for r in taken.replicas
        if r.shard_id in shards and (r.covers_from is None or asked.range_start.date() >= r.covers_from)
    }
    live = {n for n, _ in holding if n in alive}
    # Of those that hold what is asked for, at most half are left out because they failed.
    spared = len(live & failing) > len(live) // 2
    able = {(n, s) for n, s in holding if n in alive - exclude and (n not in failing or spared)}
    if not spared:
        assert (decision.verdict is Verdict.NO_REPLICA) == (not able)
    if decision.verdict is Verdict.NO_REPLICA:
        assert len({n for n, _ in able}) <= len(live) // 2
        assert decision.node_id == ""
        assert decision.retry_after >= 1
        return
    assert (decision.node_id, decision.shard_id) in able
    assert decision.reason
    at_version = {(n, s) for n, s in able if minimum is None or known.get((n, s), -1) >= minimum}
    if decision.verdict is Verdict.ROUTED:
        assert (decision.node_id, decision.shard_id) in at_version
        assert decision.node_id in {score.node_id for score in decision.candidates}
        draining = {n.node_id for n in taken.nodes if n.state is NodeState.DRAINING}
        if decision.node_id in draining and entity != "hot":
            assert {n for n, _ in at_version} <= draining, "a draining node is the last resort"


def fail(router: Router, node_id: str, times: int = EJECT_AFTER) -> None:
    for _ in range(times):
        decision = Decision(Verdict.ROUTED, 0, router.epoch, node_id)
        router.started(decision)
        router.finished(decision, Outcome(failed=True))


def test_without_an_epoch_there_is_no_replica() -> None:
    decision = Router().route(query(), now=NOW)
    assert decision.verdict is Verdict.NO_REPLICA
    assert "epoch" in decision.reason


def test_two_choices_prefer_the_node_with_less_in_flight() -> None:
    router = router_with(two_nodes())
    busy = Decision(Verdict.ROUTED, 0, 1, "a")
    for _ in range(3):
        router.started(busy)
    assert {router.route(query(), now=NOW).node_id for _ in range(20)} == {"b"}


def test_two_choices_prefer_the_node_with_the_lower_reported_load_until_it_decays() -> None:
    clock = Clock()
    router = router_with(two_nodes(), clock)
    seen = Decision(Verdict.ROUTED, 0, 1, "a")
    router.started(seen)
    router.finished(seen, Outcome(False, load=8.0))
    assert {router.route(query(), now=NOW).node_id for _ in range(20)} == {"b"}
    clock.seconds = 1e6
    assert {router.route(query(), now=NOW).node_id for _ in range(50)} == {"a", "b"}


def test_predicted_load_of_the_current_interval_turns_queries_away_before_the_load_is_there() -> None:
    entity = "e"
    other = (entity_slot(entity, SLOT_BITS) + 1) % (1 << SLOT_BITS)
    nodes = (node("a"), node("b"))
    replicas = (Replica(entity_slot(entity, SLOT_BITS), "a"), Replica(entity_slot(entity, SLOT_BITS), "b"), Replica(other, "a"))
    coming = (PredictedLoad(other, datetime(2013, 11, 28, 5, tzinfo=UTC), 9.0),)
    router = router_with(snapshot(nodes, replicas, predicted=coming))
    chosen = [router.route(query(entity), now=NOW) for _ in range(20)]
    assert {decision.node_id for decision in chosen} == {"b"}
    later = {router.route(query(entity), now=NOW + timedelta(hours=1)).node_id for _ in range(50)}
    assert later == {"a", "b"}


def test_predicted_load_is_the_shards_mean_by_share_of_weight() -> None:
    replicas = tuple(Replica(shard, n, w) for shard in range(4) for n, w in (("a", 3.0), ("b", 1.0)))
    coming = tuple(PredictedLoad(shard, datetime(2013, 11, 28, 5, tzinfo=UTC), 8.0) for shard in range(4))
    router = router_with(snapshot((node("a", 1e3), node("b", 1e-3)), replicas, predicted=coming))
    decision = router.route(query(), now=NOW)
    assert decision.node_id == "a"
    assert decision.predicted_load == pytest.approx(4 * 8.0 * 3 / 4)


@pytest.mark.parametrize(("skill", "expected"), [(1.0, 3.0), (0.0, 1.0)])
def test_traffic_follows_the_weights_as_far_as_they_are_trusted(skill: float, expected: float) -> None:
    replicas = everywhere("a", weight=0.75) + everywhere("b", weight=0.25)
    taken = dataclasses.replace(snapshot((node("a", 1e9), node("b", 1e9)), replicas), skill=skill)
    router, generator = Router(seed=3, monotonic=Clock()), random.Random(3)
    router.adopt(taken)
    in_flight: list[Decision] = []
    sent: Counter[str] = Counter()
    for i in range(2000):
        decision = router.route(query(f"e{i}"), now=NOW)
        router.started(decision)
        in_flight.append(decision)
        sent[decision.node_id] += 1
        if len(in_flight) > 40:
            router.finished(in_flight.pop(generator.randrange(len(in_flight))), Outcome(False))
    assert sent["a"] / sent["b"] == pytest.approx(expected, rel=0.2)


def test_a_failing_node_is_left_out_for_a_while_and_then_tried_again() -> None:
    clock = Clock()
    router = router_with(two_nodes(), clock)
    fail(router, "a")
    assert {router.route(query(), now=NOW).node_id for _ in range(20)} == {"b"}
    clock.seconds = EJECT_SECONDS + 1e6
    assert {router.route(query(), now=NOW).node_id for _ in range(50)} == {"a", "b"}


def test_an_answer_between_failures_keeps_a_node_in() -> None:
    router = router_with(two_nodes())
    fail(router, "a", EJECT_AFTER - 1)
    answered = Decision(Verdict.ROUTED, 0, 1, "a")
    router.started(answered)
    router.finished(answered, Outcome(False))
    fail(router, "a", EJECT_AFTER - 1)
    assert router.route(query(), now=NOW, exclude=frozenset("b")).node_id == "a"


def test_at_most_half_of_the_replicas_are_left_out_for_failing_and_those_that_failed_last() -> None:
    clock = Clock()
    router = router_with(two_nodes(), clock)
    fail(router, "a")
    clock.seconds = 1.0
    fail(router, "b")
    assert {router.route(query(), now=NOW).node_id for _ in range(20)} == {"a"}


def test_when_all_were_tried_the_decision_says_when_to_come_again() -> None:
    router = router_with(two_nodes())
    fail(router, "a")
    decision = router.route(query(), now=NOW, exclude=frozenset("ab"))
    assert decision.verdict is Verdict.NO_REPLICA
    assert 1 <= decision.retry_after <= EJECT_SECONDS
    assert "a was tried for this query" in decision.reason


def test_a_refused_shard_is_asked_elsewhere_while_other_shards_still_go_there() -> None:
    router = router_with(two_nodes())
    shard = entity_slot("e", SLOT_BITS)
    refused = Decision(Verdict.ROUTED, shard, 1, "a")
    router.started(refused)
    router.finished(refused, Outcome(False, not_mine=True))
    assert {router.route(query("e"), now=NOW).node_id for _ in range(20)} == {"b"}
    other = next(f"x{i}" for i in range(99) if entity_slot(f"x{i}", SLOT_BITS) != shard)
    assert router.route(query(other), now=NOW, exclude=frozenset("b")).node_id == "a"


def test_a_token_is_answered_only_where_the_version_is_known_and_else_says_behind() -> None:
    router = router_with(two_nodes())
    shard = entity_slot("e", SLOT_BITS)
    router.observe("a", applied={shard: 4})
    router.observe("b", applied={shard: 6})
    assert {router.route(query("e"), now=NOW, minimum_version=5).node_id for _ in range(20)} == {"b"}
    waiting = router.route(query("e"), now=NOW, minimum_version=7)
    assert waiting.verdict is Verdict.BEHIND
    assert waiting.node_id == "b"


def test_an_isolated_entity_is_served_by_its_own_replicas_and_its_slots() -> None:
    slot, own = entity_slot("hot", SLOT_BITS), 1 << SLOT_BITS
    replicas = (Replica(slot, "a"), Replica(own, "b", covers_from=date(2013, 11, 20)))
    router = router_with(snapshot((node("a"), node("b")), replicas, isolated=(("hot", own),)))
    recent = {(d.node_id, d.shard_id) for d in (router.route(query("hot"), now=NOW) for _ in range(50))}
    assert recent == {("a", slot), ("b", own)}
    old = {(d.node_id, d.shard_id) for d in (router.route(query("hot", NOW - timedelta(days=60)), now=NOW) for _ in range(20))}
    assert old == {("a", slot)}


def test_what_the_control_plane_says_of_a_node_counts_before_the_next_epoch() -> None:
    router = router_with(two_nodes())
    router.observe("a", state=NodeState.DEAD)
    router.observe("b", url="http://moved")
    decision = router.route(query(), now=NOW)
    assert (decision.node_id, decision.url) == ("b", "http://moved")


def test_older_epochs_are_not_adopted_and_a_contradictory_one_leaves_the_old() -> None:
    router = router_with(two_nodes(epoch=5))
    assert not router.adopt(two_nodes(epoch=4))
    with pytest.raises(ForeshardError, match="unknown node"):
        router.adopt(snapshot((node("a"),), everywhere("b"), epoch=6))
    assert router.epoch == 5
    assert router.route(query(), now=NOW).verdict is Verdict.ROUTED


def test_an_epoch_is_drained_when_its_last_query_is_finished() -> None:
    router = router_with(two_nodes(epoch=1))
    old = router.route(query(), now=NOW)
    router.started(old)
    router.adopt(two_nodes(epoch=2))
    new = router.route(query(), now=NOW)
    router.started(new)
    assert not router.is_drained(2)
    router.finished(old, Outcome(False))
    assert router.is_drained(2)


def test_the_same_seed_gives_the_same_choices() -> None:
    taken = snapshot(tuple(node(n) for n in NODES), everywhere(*NODES))
    first, second = router_with(taken), router_with(taken)
    asked = [query(f"e{i}") for i in range(50)]
    assert [first.route(q, now=NOW) for q in asked] == [second.route(q, now=NOW) for q in asked]


def test_swapping_tables_under_traffic_never_mixes_epochs() -> None:
    """Odd epochs place everything on a, even ones on b: every decision's node must be that of its epoch."""
    nodes = (node("a"), node("b"))
    tables = [snapshot(nodes, everywhere("a" if epoch % 2 else "b"), epoch) for epoch in range(1, 120)]
    router = router_with(tables[0])
    wrong: list[Decision] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            decision = router.route(query(), now=NOW)
            router.started(decision)
            router.finished(decision, Outcome(False))
            if decision.node_id != ("a" if decision.epoch % 2 else "b"):
                wrong.append(decision)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for table in tables[1:]:
        router.adopt(table)
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert router.is_drained(router.epoch + 1)


def test_explaining_names_every_replica_and_why_it_is_left_out() -> None:
    router = router_with(two_nodes())
    router.observe("a", state=NodeState.DEAD)
    told = {str(row["node_id"]): row["left_out"] for row in router.explain(query(), now=NOW)}
    assert told == {"a": "is dead", "b": ""}
