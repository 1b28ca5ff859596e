"""A real HAProxy, driven by epochs in a real Postgres, in front of pipelines that note what they are asked."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from live_haproxy import Driven, Proxy, Published
from small_pipelines import SmallPipeline

from foreshard.hashing import entity_slot
from foreshard.local.processes import wait_until
from foreshard.model import NodeState, Replica
from foreshard.routing import pool, store

pytestmark = pytest.mark.live

SLOT_BITS = 3
ENTITIES = [f"AA{number}" for number in range(40)]
NOT_MINE = (503, "not-mine; epoch=1")


class Site:
    """Nodes a, b and c, a published pool, HAProxy and its driver."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self.nodes = {node: SmallPipeline(node) for node in "abc"}
        self.pool = Published(url, SLOT_BITS, {node: p.url for node, p in self.nodes.items()})
        self.proxy = Proxy(folder, SLOT_BITS)
        self.driven = Driven(self.proxy, url)

    def publish(self, replicas: list[Replica], isolated: tuple[tuple[str, int], ...] = ()) -> None:
        epoch = self.pool.publish(replicas, isolated)
        wait_until(lambda: self.proxy.api.held().epoch == epoch, 20, f"HAProxy to be at epoch {epoch}")

    def stop(self) -> None:
        for pipeline in self.nodes.values():
            pipeline.stop()
        self.driven.stop()
        self.proxy.stop()


@pytest.fixture
def site(tmp_path: Path, database: str) -> Iterator[Site]:
    site = Site(tmp_path, database)
    yield site
    site.stop()


def test_queries_go_to_their_shards_replicas_only(site: Site) -> None:
    site.publish([Replica(slot, node) for slot in range(8) for node in ("ab" if slot < 4 else "bc")])
    for entity in ENTITIES:
        answer = site.proxy.ask(entity)
        slot = entity_slot(entity, SLOT_BITS)
        assert (answer.status_code, answer.headers["X-Foreshard-Shard"]) == (200, str(slot))
        assert answer.headers["X-Foreshard-Epoch"] == "1"
        assert answer.headers["X-Foreshard-Node"] in ("ab" if slot < 4 else "bc")
    for pipeline in site.nodes.values():
        assert all(query.shard_id == entity_slot(query.entity_id, SLOT_BITS) for query in pipeline.asked)


def test_weights_are_followed_by_notification_and_queries_shared_by_them(site: Site) -> None:
    site.publish(site.pool.everywhere("a", "b"))
    seconds = []
    for a, b in [(1, 3), (3, 1), (1, 1), (1, 7), (5, 2), (1, 9), (2, 2), (9, 1), (1, 3)]:
        replicas = site.pool.everywhere("a", weight=a) + site.pool.everywhere("b", weight=b)
        wanted = {"a": round(256 * a / max(a, b)), "b": round(256 * b / max(a, b))}
        begin = time.monotonic()
        site.pool.publish(replicas)
        wait_until(lambda wanted=wanted: all(site.proxy.weights(f"s{s}") == wanted for s in range(8)), 20, "the weights")
        seconds.append(time.monotonic() - begin)
    print(f"from a publish to HAProxy's weights: median {statistics.median(seconds):.3f} s, longest {max(seconds):.3f} s")
    entity = ENTITIES[0]
    for pipeline in site.nodes.values():
        pipeline.asked.clear()
    for _ in range(80):
        assert site.proxy.ask(entity).status_code == 200
    assert abs(len(site.nodes["a"].asked) - 20) <= 1  # of 80, by weights 1 and 3


@pytest.mark.parametrize("answer", [NOT_MINE, (425, "behind; version=3")])
def test_another_replica_is_asked_after_a_refusal(site: Site, answer: tuple[int, str]) -> None:
    site.publish(site.pool.everywhere("a", "b"))
    site.nodes["a"].answer = answer
    answers = [site.proxy.ask(entity) for entity in ENTITIES]
    assert {(found.status_code, found.headers["X-Foreshard-Node"]) for found in answers} == {(200, "b")}
    assert site.nodes["a"].asked


def test_a_refusal_by_all_is_passed_on(site: Site) -> None:
    site.publish(site.pool.everywhere("a", "b"))
    for node in "ab":
        site.nodes[node].answer = NOT_MINE
    answer = site.proxy.ask("AA1")
    assert (answer.status_code, answer.text) == NOT_MINE


def test_a_node_that_died_is_passed_over_and_then_left_out(site: Site) -> None:
    site.publish(site.pool.everywhere("a", "b"))
    site.nodes["a"].stop()
    assert {site.proxy.ask(entity).headers["X-Foreshard-Node"] for entity in ENTITIES} == {"b"}
    wait_until(lambda: "DOWN" in site.proxy.api.ask("show stat nodes 4 -1"), 20, "the check to fail")
    site.nodes["b"].asked.clear()
    assert {site.proxy.ask(entity).status_code for entity in ENTITIES} == {200}


def test_states_of_nodes_are_followed_between_epochs(site: Site) -> None:
    site.publish(site.pool.everywhere("a", "b", "c"))
    pool.set_node_state(site.url, "usage", "a", NodeState.DEAD)
    pool.set_node_state(site.url, "usage", "b", NodeState.DRAINING)
    site.driven.driver.look()
    wait_until(lambda: site.proxy.weights("s0") == {"b": 1, "c": 256}, 20, "the states to be followed")


def test_an_isolated_entity_goes_by_its_own_shard_and_falls_back_to_its_slot(site: Site) -> None:
    entity = "naïve \n#entity"
    slot = entity_slot(entity, SLOT_BITS)
    own = [Replica(8, "c", 2.0)]
    site.publish([*site.pool.everywhere("a", "b"), *own], ((entity, 8),))
    for _ in range(8):
        assert site.proxy.ask(entity).headers["X-Foreshard-Shard"] == "8"
    # One for each of three: half of the weight is the slot's.
    assert [site.nodes[n].shards() for n in "abc"] == [{slot: 2}, {slot: 2}, {8: 4}]
    others = [other for other in ENTITIES if entity_slot(other, SLOT_BITS) == slot]
    assert {site.proxy.ask(other).headers["X-Foreshard-Node"] for other in others * 2} == {"a", "b"}
    site.nodes["c"].stop()
    assert {site.proxy.ask(entity).status_code for _ in range(8)} == {200}
    site.publish(site.pool.everywhere("a", "b"))
    assert site.proxy.ask(entity).headers["X-Foreshard-Shard"] == str(slot)


def test_more_isolated_entities_than_backends_go_by_their_slots(site: Site) -> None:
    isolated = tuple((entity, 8 + number) for number, entity in enumerate(ENTITIES[:6]))
    site.publish([*site.pool.everywhere("a", "b"), *(Replica(shard, "c") for _, shard in isolated)], isolated)
    shards = [int(site.proxy.ask(entity).headers["X-Foreshard-Shard"]) for entity, _ in isolated]
    assert sum(shard >= 8 for shard in shards) == 4
    assert any("2 isolated entities go by their slots" in said for said in site.driven.said)


@pytest.mark.parametrize(
    ("start", "nodes"),
    [
        ("2013-11-21T00:00:00Z", "abc"),
        ("2013-11-21", "abc"),
        ("2013-11-22T07:00:00.5", "abc"),
        ("2013-11-20T23:59:59Z", "ab"),
        ("2013-11-21T00:30:00+02:00", "ab"),  # the day before in UTC
        ("20131122", "ab"),
        ("2013-W48-1", "ab"),
        ("9999", "ab"),
    ],
)
def test_hot_replicas_answer_only_what_they_surely_cover(site: Site, start: str, nodes: str) -> None:
    hot = [Replica(slot, "c", covers_from=date(2013, 11, 21)) for slot in range(8)]
    site.publish([*site.pool.everywhere("a", "b"), *hot])
    assert {site.proxy.ask("AA1", start=start).headers["X-Foreshard-Node"] for _ in range(6)} == set(nodes)


def test_an_epoch_is_acknowledged_when_no_query_is_left_on_what_it_took_away(site: Site) -> None:
    site.publish(site.pool.everywhere("a", "b"))
    wait_until(lambda: store.unacknowledged(site.url, "usage", 1) == [], 20, "epoch 1 to be acknowledged")
    slow = site.nodes["a"]
    slow.gate.clear()
    threads = [threading.Thread(target=site.proxy.ask, args=("AA1",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert slow.held.acquire(timeout=10)
    site.publish(site.pool.everywhere("b", "c"))
    asked = len(slow.asked)
    answers = [site.proxy.ask(entity) for entity in ENTITIES]
    assert {answer.headers["X-Foreshard-Node"] for answer in answers} == {"b", "c"}
    assert len(slow.asked) == asked
    assert store.unacknowledged(site.url, "usage", 2) == ["haproxy-1"]
    slow.gate.set()
    wait_until(lambda: store.unacknowledged(site.url, "usage", 2) == [], 20, "epoch 2 to be acknowledged")
    for thread in threads:
        thread.join()
    wait_until(lambda: not [n for _, n in site.proxy.api.held().servers if n.startswith("a:")], 20, "a's servers to be deleted")


def test_a_node_that_moved_is_asked_at_its_new_address(site: Site) -> None:
    site.publish(site.pool.everywhere("a", "b"))
    moved = SmallPipeline("a")
    try:
        site.nodes["a"].stop()
        site.pool.addresses["a"] = moved.url
        pool.set_node_url(site.url, "usage", "a", moved.url)
        site.publish(site.pool.everywhere("a", "b"))
        # Where a node is now is read a moment after the epoch.
        wait_until(lambda: bool(site.proxy.ask("AA1") and moved.asked), 30, "the new address to be asked")
        assert {site.proxy.ask("AA1").headers["X-Foreshard-Node"] for _ in range(4)} == {"a", "b"}
    finally:
        moved.stop()


def test_haproxy_restarted_starts_from_its_files_and_is_brought_up_to_date(site: Site) -> None:
    site.publish(site.pool.everywhere("a", "b"), (("AA1", 8),))
    site.driven.stop()
    site.proxy.kill()
    site.proxy.start()
    assert site.proxy.ask("AA1").headers["X-Foreshard-Epoch"] == "1"
    site.pool.publish(site.pool.everywhere("b", "c"))
    site.proxy.kill()
    site.driven = Driven(site.proxy, site.url)  # finds no HAProxy, then one that is behind
    wait_until(lambda: any("does not answer" in said for said in site.driven.said), 20, "the driver to miss HAProxy")
    assert store.unacknowledged(site.url, "usage", 2) == ["haproxy-1"]
    site.proxy.start()
    wait_until(lambda: site.proxy.weights("s0") == {"b": 256, "c": 256}, 20, "the new epoch")
    wait_until(lambda: store.unacknowledged(site.url, "usage", 2) == [], 20, "the acknowledgement")


def test_what_was_changed_by_hand_is_put_right(site: Site) -> None:
    site.publish(site.pool.everywhere("a", "b"))
    site.proxy.api.run(["set server s1/a:1 weight 3", "set server s1/b:2 state maint", "set server nodes/n1 state maint"])
    wait_until(lambda: site.proxy.weights("s1") == {"a": 256, "b": 256}, 20, "servers to be as published")
    port = int(site.nodes["a"].url.rpartition(":")[2])
    wait_until(lambda: ("127.0.0.1", port) in site.proxy.api.held().checks.values(), 20, "the node to be checked again")
