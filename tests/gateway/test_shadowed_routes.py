"""Which queries the router also gives to new replicas, over random snapshots, and that it chooses as it would without them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from foreshard.gateway.activity import Outcome
from foreshard.gateway.decision import Verdict
from foreshard.gateway.query import Query
from foreshard.gateway.router import Router
from foreshard.hashing import entity_slot
from foreshard.model import Node, Replica
from foreshard.routing.snapshot import Shadow, Snapshot

NOW = datetime(2013, 11, 28, 5, 30, tzinfo=UTC)
SLOT_BITS = 2
SLOTS = 1 << SLOT_BITS
OWN = SLOTS  # the shard of the entity `hot`
NODES = tuple(Node(n, 10.0, url=f"http://{n}") for n in ("a", "b"))
DAY = date(2013, 11, 20)
shadows_of = st.lists(
    st.builds(
        Shadow,
        st.integers(0, OWN),
        st.sampled_from(["a", "n", "m"]),
        st.one_of(st.none(), st.dates(date(2013, 11, 1), date(2013, 11, 28))),
        st.sampled_from([0.0, 0.5, 1.0]),
        st.integers(0, 5),
    ),
    max_size=8,
)


def snapshot(shadows: tuple[Shadow, ...] = (), epoch: int = 9) -> Snapshot:
    replicas = tuple(Replica(shard, node.node_id) for shard in range(SLOTS) for node in NODES)
    return Snapshot("usage", epoch, epoch - 1, SLOT_BITS, 3600, 7, 90, NODES, replicas, (("hot", OWN),), shadows=shadows)


def router(taken: Snapshot, seed: int = 7) -> Router:
    found = Router(seed=seed)
    assert found.adopt(taken)
    for node_id in ("n", "m"):
        found.observe(node_id, url=f"http://{node_id}")
    return found


def query(entity_id: str = "e", days: int = 1) -> Query:
    start = NOW - timedelta(days=days)
    return Query(entity_id, "s", "o", start, start + timedelta(hours=1))


@given(shadows_of, st.sampled_from(["hot", "e", "f", "g"]), st.integers(0, 40), st.sampled_from(["a", "b"]))
def test_a_query_goes_only_where_it_can_be_answered_by_another_node(
    shadows: list[Shadow], entity: str, days: int, answered_by: str
) -> None:
    asked = query(entity, days)
    for copy in router(snapshot(tuple(shadows))).shadows(asked, answered_by):
        listed = [s for s in shadows if (s.since_epoch or 9, s.shard_id, s.node_id) == copy.key]
        covering = [s for s in listed if s.covers_from is None or asked.range_start.date() >= s.covers_from]
        assert any(s.share > 0 for s in covering)
        assert copy.shard_id == entity_slot(entity, SLOT_BITS) or (entity, copy.shard_id) == ("hot", OWN)
        assert copy.node_id != answered_by
        assert (copy.url, copy.epoch) == (f"http://{copy.node_id}", 9)


@given(shadows_of, st.integers(0, 2**32))
def test_whom_the_router_chooses_does_not_depend_on_shadows_but_by_chance(shadows: list[Shadow], seed: int) -> None:
    for taken in (snapshot(tuple(shadows)), snapshot()):
        found = router(taken, seed)
        decision = found.route(query(), now=NOW)
        assert decision.verdict is Verdict.ROUTED
        assert decision.node_id == router(snapshot(), seed).route(query(), now=NOW).node_id
        assert {row["node_id"] for row in found.explain(query(), now=NOW)} == {"a", "b"}


def test_shares_are_kept() -> None:
    slot = entity_slot("e", SLOT_BITS)
    shared = router(snapshot((Shadow(slot, "n", None, 0.25), Shadow(slot, "m", None, 0.0))))
    chosen = [copy.node_id for _ in range(4000) for copy in shared.shadows(query(), "a")]
    assert set(chosen) == {"n"}
    assert 850 < len(chosen) < 1150  # seeded; 1000 expected, with a standard deviation of 27
    always = router(snapshot((Shadow(slot, "n", None, 1.0), Shadow(slot, "m", DAY, 1.0))))
    assert {copy.node_id for copy in always.shadows(query(days=1), "a")} == {"n", "m"}
    assert {copy.node_id for copy in always.shadows(query(days=20), "a")} == {"n"}


def test_an_isolated_entitys_queries_go_to_new_replicas_of_its_own_shard_and_of_its_slot() -> None:
    slot = entity_slot("hot", SLOT_BITS)
    both = router(snapshot((Shadow(slot, "n", None, 1.0), Shadow(OWN, "m", None, 1.0))))
    assert {(c.shard_id, c.node_id) for c in both.shadows(query("hot"), "a")} == {(slot, "n"), (OWN, "m")}
    neighbour = next(e for e in map(str, range(100)) if entity_slot(e, SLOT_BITS) == slot)
    assert {(c.shard_id, c.node_id) for c in both.shadows(query(neighbour), "a")} == {(slot, "n")}


def test_a_shard_that_is_to_become_an_entitys_own_gets_that_entitys_queries_alone() -> None:
    slot = entity_slot("e", SLOT_BITS)
    neighbour = next(e for e in map(str, range(100)) if entity_slot(e, SLOT_BITS) == slot)
    found = router(snapshot((Shadow(OWN + 1, "n", None, 1.0, entity_id="e"),)))
    assert [(c.shard_id, c.node_id) for c in found.shadows(query("e"), "a")] == [(OWN + 1, "n")]
    assert found.shadows(query(neighbour), "a") == found.shadows(query("hot"), "a") == ()


def test_a_shadow_is_known_by_the_epoch_that_began_it() -> None:
    found = Router(seed=1)
    assert found.shadows(query(), "a") == ()
    assert not found.is_shadowed((9, 0, "n"))
    found.adopt(snapshot((Shadow(0, "n", None, 1.0),)))
    assert found.is_shadowed((9, 0, "n"))
    found.adopt(snapshot((Shadow(0, "n", None, 1.0, since_epoch=9),), epoch=10))
    assert found.is_shadowed((9, 0, "n"))
    assert not found.is_shadowed((10, 0, "n"))
    found.adopt(snapshot(epoch=11))
    assert not found.is_shadowed((9, 0, "n"))


def test_a_node_without_an_address_gets_nothing_and_a_new_replica_is_asked_whatever_its_node_did_before() -> None:
    slot = entity_slot("e", SLOT_BITS)
    found = router(snapshot((Shadow(slot, "unheard-of", None, 1.0), Shadow(slot, "b", None, 1.0))))
    assert [copy.node_id for copy in found.shadows(query(), "a")] == ["b"]
    for _ in range(3):
        decision = found.route(query(), now=NOW, exclude=frozenset({"a"}))
        found.started(decision)
        found.finished(decision, Outcome(failed=True))
    assert "b failed repeatedly" in found.route(query(), now=NOW).reason
    assert [copy.node_id for copy in found.shadows(query(), "a")] == ["b"]
