"""New replicas that get a part of the queries as well: real gateways, pipelines and Postgres."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from datetime import date

import pytest
from live_cluster import CLIENT, ENTITIES, GATEWAY, HOUR, NODES, PIPELINE, SLOTS, Cluster, PutShard, running

from foreshard.gateway import http
from foreshard.gateway.pipeline import ANSWERS_AT_ONCE
from foreshard.hashing import entity_slot
from foreshard.local.postgres import EmbeddedPostgres
from foreshard.local.processes import wait_until
from foreshard.model import Layout, Move, MoveKind, Plan, PlanMetrics
from foreshard.routing import database as control_plane
from foreshard.routing import pool, store
from foreshard.routing.snapshot import Shadow
from foreshard.transition import negotiation
from foreshard.transition import store as transitions
from foreshard.transition.picture import Answer, ShadowFigures
from foreshard.transition.shadowing import read_shadows

pytestmark = pytest.mark.live

OF_SHARD = {shard: [e for e in ENTITIES if entity_slot(e, 2) == shard] for shard in range(SLOTS)}
# Shards of the new replicas on node c: the same rows, other rows of one entity, the same rows at another version, and not held.
SAME, OTHER, NEWER, MISSING = range(SLOTS)
ODD_ONE = OF_SHARD[OTHER][0]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, put_shard: PutShard, postgres: EmbeddedPostgres) -> Iterator[Cluster]:
    """Nodes a and b serve everything; node c holds new replicas that no epoch routes to."""
    url = postgres.create_database("gateway_shadows")
    found = Cluster(tmp_path_factory.mktemp("shadows"), put_shard, url, more=("c",))
    for cluster in running(found):
        cluster.put("c", SAME, 1, {SAME: 1})
        rows = [(entity, HOUR, "2" if entity == ODD_ONE else "1", 1) for entity in OF_SHARD[OTHER]]
        put_shard(cluster.settings.table("serving/c"), OTHER, rows, {SAME: 1, OTHER: 1})
        cluster.put("c", NEWER, 1, {SAME: 1, OTHER: 1, NEWER: 2})
        await_held(cluster, "c", {SAME: 1, OTHER: 1, NEWER: 2})
        yield cluster


def await_held(cluster: Cluster, node_id: str, shards: dict[int, int]) -> None:
    """Until the node itself has reported what it holds."""
    wait_until(
        lambda: (beat := store.read_heartbeats(cluster.url, "usage").get(node_id)) is not None and beat.shards == shards,
        20,
        f"{node_id} to report its shards",
    )


def shadow(cluster: Cluster, *shadows: Shadow) -> int:
    """Publishes them, and returns the epoch once every gateway follows it."""
    epoch = cluster.publish(shadows=shadows)
    wait_until(lambda: store.unacknowledged(cluster.url, "usage", epoch) == [], 20, "the gateways to follow")
    return epoch


def ask(cluster: Cluster, entities: list[str], gateway: str = "g1", **parameters: str) -> None:
    """Each is answered by a replica of the epoch, with its rows."""
    for entity in entities:
        answer = cluster.usage(entity, gateway=gateway, **parameters)
        assert answer.status_code == 200
        assert answer.json()[0]["quantity"] == 1
        assert answer.headers[http.NODE] in NODES


def await_figures(cluster: Cluster, epoch: int, expected: dict[int, tuple[int, int, int, int]]) -> dict[int, ShadowFigures]:
    """Waits for compared, mismatched, failed and skipped, by shard of node c, to become these."""
    seen: dict[int, ShadowFigures] = {}

    def arrived() -> bool:
        seen.clear()
        seen.update({shard: found for (shard, node), found in read_shadows(cluster.url, "usage", epoch).items()})
        return {s: (f.compared, f.mismatched, f.failed, f.skipped) for s, f in seen.items()} == expected

    wait_until(arrived, 20, f"reports of {expected}")
    return seen


def metric(cluster: Cluster, name: str, gateway: str = "g1") -> float | None:
    found = re.search(rf"^{name} (\S+)$", CLIENT.get(cluster.addresses[gateway] + "/metrics").text, re.MULTILINE)
    return float(found[1]) if found else None


def test_equal_differing_incomparable_and_missing_answers_are_told_apart(cluster: Cluster) -> None:
    before = {outcome: metric(cluster, f"foreshard_gateway_shadow_{outcome}_total") for outcome in ("compared", "failed")}
    epoch = shadow(cluster, *(Shadow(shard, "c", None, 1.0) for shard in range(SLOTS)))
    for entities in OF_SHARD.values():
        ask(cluster, entities * 2)
    n = {shard: 2 * len(entities) for shard, entities in OF_SHARD.items()}
    seen = await_figures(
        cluster,
        epoch,
        {
            SAME: (n[SAME], 0, 0, 0),
            OTHER: (n[OTHER], 2, 0, 0),
            NEWER: (0, 0, 0, n[NEWER]),
            MISSING: (0, 0, n[MISSING], 0),
        },
    )
    assert f"entity_id={ODD_ONE}" in seen[OTHER].example
    assert "not-mine" in seen[MISSING].example
    for shard in (SAME, OTHER, NEWER):
        assert seen[shard].old_p95_ms > 0
        assert seen[shard].new_p95_ms > 0
    assert (seen[SAME].example, seen[MISSING].new_p95_ms) == ("", 0)
    assert metric(cluster, "foreshard_gateway_shadow_compared_total") == (before["compared"] or 0) + n[SAME] + n[OTHER]
    assert metric(cluster, "foreshard_gateway_shadow_failed_total") == (before["failed"] or 0) + n[MISSING]


def test_only_the_share_and_the_range_of_a_new_replica_go_to_it(cluster: Cluster) -> None:
    epoch = shadow(cluster, Shadow(SAME, "c", None, 0.0), Shadow(OTHER, "c", date(2013, 11, 20), 1.0))
    ask(cluster, OF_SHARD[SAME])
    ask(cluster, OF_SHARD[OTHER], start="2013-11-19T23:00:00Z")
    others = [entity for entity in OF_SHARD[OTHER] if entity != ODD_ONE]
    ask(cluster, others, start="2013-11-20T00:00:00Z")
    await_figures(cluster, epoch, {OTHER: (len(others), 0, 0, 0)})


def test_reports_of_two_gateways_and_of_a_killed_ones_successor_add_up(cluster: Cluster) -> None:
    cluster.launch(GATEWAY, "g2")
    cluster.await_address("g2")
    epoch = shadow(cluster, Shadow(SAME, "c", None, 1.0))
    entity = OF_SHARD[SAME][0]
    ask(cluster, [entity] * 3, "g1")
    ask(cluster, [entity] * 2, "g2")
    await_figures(cluster, epoch, {SAME: (5, 0, 0, 0)})

    cluster.kill("g1")
    cluster.launch(GATEWAY, "g1")
    cluster.await_address("g1")
    # The shadowing goes on under a later epoch, and its figures with it.
    shadow(cluster, Shadow(SAME, "c", None, 1.0, since_epoch=epoch))
    ask(cluster, [entity] * 4, "g1")
    await_figures(cluster, epoch, {SAME: (9, 0, 0, 0)})

    ask(cluster, [entity] * 2, "g2")
    wait_until(lambda: metric(cluster, "foreshard_gateway_shadow_compared_total", "g2") == 4, 20, "g2 to compare")
    assert cluster.children.pop("g2").stop() == 0
    assert read_shadows(cluster.url, "usage", epoch)[SAME, "c"].compared == 11

    ask(cluster, [entity], "g1")
    wait_until(lambda: metric(cluster, "foreshard_gateway_shadow_compared_total", "g1") == 5, 20, "g1 to compare")
    over = shadow(cluster)
    await_figures(cluster, epoch, {SAME: (12, 0, 0, 0)})
    ask(cluster, [entity], "g1")
    assert metric(cluster, "foreshard_gateway_shadow_compared_total", "g1") == 5
    assert read_shadows(cluster.url, "usage", over) == {}


def test_callers_do_not_notice_that_a_new_replicas_node_is_dead(cluster: Cluster) -> None:
    cluster.kill("c")
    try:
        epoch = shadow(cluster, Shadow(SAME, "c", None, 1.0), Shadow(OTHER, "c", None, 1.0))
        ask(cluster, OF_SHARD[SAME] * 2)
        ask(cluster, OF_SHARD[OTHER] * 2)
        asked = {SAME: 2 * len(OF_SHARD[SAME]), OTHER: 2 * len(OF_SHARD[OTHER])}
        seen = await_figures(cluster, epoch, {shard: (0, 0, n, 0) for shard, n in asked.items()})
        assert "c did not answer" in seen[SAME].example
        told = CLIENT.get(cluster.addresses["g1"] + "/v1/routes", params={"entity_id": OF_SHARD[SAME][0]}).json()
        assert [(r["node_id"], r["left_out"]) for r in told["replicas"]] == [(n, "") for n in NODES]
    finally:
        cluster.launch(PIPELINE, "c")
        cluster.await_address("c")


def test_a_node_says_who_it_is_and_at_once_what_it_has_come_to_hold(cluster: Cluster) -> None:
    first = store.read_heartbeats(cluster.url, "usage")["b"]
    assert (first.capacity, len(first.incarnation)) == (10.0, 32)
    cluster.kill("b")
    cluster.launch(PIPELINE, "b")
    cluster.await_address("b")
    await_held(cluster, "b", {shard: 1 for shard in range(SLOTS)})
    wait_until(lambda: store.read_heartbeats(cluster.url, "usage")["b"].incarnation != first.incarnation, 20, "b's new process")


def run_plan(url: str, plan_id: str, *moves: Move) -> None:
    """Makes this the pool's running plan."""
    metrics = PlanMetrics(0.9, 0.7, 0.6, 100, 90, len(moves), "optimum")
    transitions.save_plan(url, Plan(plan_id, "usage", 1, "digest", moves, Layout(1, ()), metrics), {})
    with control_plane.transaction(url) as cursor:
        cursor.execute("UPDATE plan SET state = 'failed' WHERE state = 'running'")
        cursor.execute("UPDATE plan SET state = 'running' WHERE plan_id = %s", [plan_id])


def answered(cluster: Cluster, plan_id: str, count: int) -> dict[tuple[int, str], Answer]:
    found: dict[tuple[int, str], Answer] = {}

    def complete() -> bool:
        found.update(negotiation.answers(cluster.url, "usage", plan_id))
        return len(found) == count

    wait_until(complete, 20, f"{count} answers to {plan_id}")
    return found


def test_pipelines_accept_moves_and_refuse_those_they_cannot_carry_out(cluster: Cluster) -> None:
    run_plan(
        cluster.url,
        "p1",
        Move(MoveKind.MOVE, SAME, "a", "c", None, 1000, "test"),
        Move(MoveKind.REPLICATE, MISSING, "", "c", None, 1 << 60, "test"),
        Move(MoveKind.DROP, 99, "b", "", None, 0, "test"),
    )
    said = answered(cluster, "p1", 4)
    assert said[0, "source"] == said[0, "target"] == Answer(True)
    assert not said[1, "target"].accepted
    assert re.fullmatch(r"has \S+ GB free, and shard 3 needs 2,305,843,009.2 GB", said[1, "target"].detail)
    assert said[2, "source"] == Answer(False, "does not hold shard 99")


def test_a_plan_of_many_moves_is_answered_in_several_turns(cluster: Cluster) -> None:
    count = 2 * ANSWERS_AT_ONCE + 1
    run_plan(cluster.url, "many", *(Move(MoveKind.DROP, SAME, "a", "", None, 0, "test") for _ in range(count)))
    assert set(answered(cluster, "many", count).values()) == {Answer(True)}


def test_a_pipeline_that_was_asked_to_stop_refuses_what_a_move_would_bring(cluster: Cluster) -> None:
    child = cluster.children.pop("c")
    try:
        # Held still, so that the move is there before it wakes up to the signal.
        os.kill(child.pid, signal.SIGSTOP)
        run_plan(cluster.url, "p2", Move(MoveKind.MOVE, SAME, "a", "c", None, 1000, "test"))
        os.kill(child.pid, signal.SIGTERM)
        os.kill(child.pid, signal.SIGCONT)
        assert answered(cluster, "p2", 2) == {(0, "source"): Answer(True), (0, "target"): Answer(False, "is stopping")}
    finally:
        assert child.stop() == 0
        cluster.launch(PIPELINE, "c")
        cluster.await_address("c")


def test_the_nodes_that_the_newest_plan_asks_for_are_a_metric(cluster: Cluster) -> None:
    assert metric(cluster, "foreshard_pool_desired_nodes") is None
    pool.set_desired_nodes(cluster.url, "usage", 5)
    wait_until(lambda: metric(cluster, "foreshard_pool_desired_nodes") == 5, 20, "the metric")
    assert pool.read_pool(cluster.url, "usage").desired_nodes == 5
    pool.set_desired_nodes(cluster.url, "usage", None)
    wait_until(lambda: metric(cluster, "foreshard_pool_desired_nodes") is None, 20, "the metric to go")
