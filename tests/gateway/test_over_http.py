"""A real Postgres, real serving tables, two pipeline processes and a gateway process, asked over HTTP."""

from __future__ import annotations

import json
import re
import tempfile
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from live_cluster import CLIENT, ENTITIES, GATEWAY, HOUR, NODES, PIPELINE, SLOTS, Cluster, PutShard, running

from foreshard.errors import ForeshardError
from foreshard.gateway import http
from foreshard.gateway.query import BadQuery, instant
from foreshard.hashing import entity_slot
from foreshard.local.postgres import EmbeddedPostgres
from foreshard.local.processes import wait_until
from foreshard.model import Replica
from foreshard.routing import store
from foreshard.transition import store as transitions


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, put_shard: PutShard, postgres: EmbeddedPostgres) -> Iterator[Cluster]:
    url = postgres.create_database("gateway_shared")
    yield from running(Cluster(tmp_path_factory.mktemp("shared"), put_shard, url))


@pytest.fixture
def own(tmp_path: Path, put_shard: PutShard, database: str) -> Iterator[Cluster]:
    """For a test that kills its processes."""
    yield from running(Cluster(tmp_path, put_shard, database))


@pytest.fixture
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """For a test that stops it. Not below pytest's folder, which any other pytest closes to the server's account."""
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def on_own_postgres(tmp_path: Path, put_shard: PutShard, own_postgres: EmbeddedPostgres) -> Iterator[Cluster]:
    url = own_postgres.url()
    assert url is not None
    yield from running(Cluster(tmp_path, put_shard, url))


@pytest.mark.live
def test_queries_are_answered_by_a_replica_with_its_node_and_epoch(shared: Cluster) -> None:
    nodes = set()
    for entity in ENTITIES * 3:
        answer = shared.usage(entity)
        assert answer.status_code == 200
        assert answer.json() == [{"start": "2013-11-20T00:00:00Z", "quantity": 1, "events": 1}]
        assert answer.headers[http.EPOCH] == str(shared.epoch)
        nodes.add(answer.headers[http.NODE])
    assert nodes == set(NODES)
    unknown = shared.usage("nobody")
    assert (unknown.status_code, unknown.json()) == (200, [])


@pytest.mark.live
@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"entity_id": ""}, "entity_id"),
        ({"start": "yesterday"}, "start"),
        ({"end": "2013-11-19"}, "before end"),
        ({"granularity": "year"}, "granularity"),
        ({"wait": "-1"}, "wait"),
    ],
)
def test_bad_parameters_get_one_sentence(shared: Cluster, parameters: dict[str, str], word: str) -> None:
    answer = shared.usage(**{"entity": "AA1", **parameters})
    assert answer.status_code == 400
    assert word in answer.json()["error"]


@pytest.mark.live
def test_a_forged_token_is_refused(shared: Cluster) -> None:
    assert shared.usage("AA1", {http.TOKEN: "forged.token"}).status_code == 403


@pytest.mark.live
def test_routes_explains_how_an_entity_is_routed(shared: Cluster) -> None:
    told = CLIENT.get(shared.addresses["g1"] + "/v1/routes", params={"entity_id": "AA1"}).json()
    assert told["shard_id"] == entity_slot("AA1", 2)
    assert {replica["node_id"] for replica in told["replicas"]} == set(NODES)
    assert "foreshard_gateway_epoch" in CLIENT.get(shared.addresses["g1"] + "/metrics").text
    assert "foreshard_pipeline_shards 4" in CLIENT.get(shared.addresses["a"] + "/metrics").text


@pytest.mark.live
def test_a_pipeline_refuses_what_it_does_not_hold_or_has_not_reached(shared: Cluster) -> None:
    asked = {"entity_id": "e", "service_id": "s", "operation_id": "o", "start": "2013-11-20", "end": "2013-11-21"}

    def ask(headers: dict[str, str]) -> tuple[int, str]:
        answer = CLIENT.get(shared.addresses["a"] + "/v1/usage", params=asked, headers=headers)
        return answer.status_code, re.sub(r"epoch=\d+", "epoch=N", answer.text)

    assert ask({http.SHARD: "99"}) == (503, "not-mine; epoch=N")
    assert ask({http.SHARD: "3", http.MINIMUM_VERSION: "1000"}) == (425, "behind; version=1")
    assert ask({http.SHARD: "3"}) == (200, "[]")
    assert ask({})[0] == 400
    assert ask({http.SHARD: "x"})[0] == 400


@pytest.mark.live
def test_a_published_epoch_is_adopted_and_acknowledged(shared: Cluster) -> None:
    only_b = tuple(Replica(shard, n) for shard in range(SLOTS) for n in (NODES if shard else ("b", "a")))
    epoch = shared.publish(only_b)
    wait_until(lambda: store.unacknowledged(shared.url, "usage", epoch) == [], 10, "the gateway to acknowledge")
    assert shared.usage("AA1").headers[http.EPOCH] == str(epoch)
    assert CLIENT.get(shared.addresses["g1"] + "/readyz").json()["epoch"] == epoch


@pytest.mark.live
def test_a_write_is_read_only_once_a_replica_has_it(shared: Cluster) -> None:
    entity = "AA1"
    shard = entity_slot(entity, 2)
    row = {"entity_id": entity, "service_id": "s", "operation_id": "o", "event_time": "2013-11-20T05:00:00Z", "quantity": 4}
    written = CLIENT.post(shared.addresses["g1"] + "/v1/usage-records", content=json.dumps([row]))
    assert written.status_code == 202
    token = {http.TOKEN: written.json()["token"]}
    landed = Path(shared.settings.landing_folder("usage_record")) / written.json()["file_name"]
    assert json.loads(landed.read_text("utf-8")) == row

    pending = shared.usage(entity, token, wait="0")
    assert pending.status_code == 425
    assert int(pending.headers["Retry-After"]) >= 1

    transitions.mark_files_applied(shared.url, "usage", [written.json()["file_name"]], 9)
    behind = shared.usage(entity, token, wait="0.3")
    assert behind.status_code == 425

    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(shared.usage(entity, token, wait="10")))
    waiting.start()
    shared.put("b", shard, 5, {s: 9 if s == shard else 1 for s in range(SLOTS)})
    waiting.join()
    assert answers[0].status_code == 200
    assert answers[0].json()[0]["quantity"] == 5
    assert answers[0].headers[http.NODE] == "b"
    assert CLIENT.post(shared.addresses["g1"] + "/v1/usage-records", content=b"hello").status_code == 400


@pytest.mark.live
def test_a_shard_that_a_node_gave_up_is_answered_by_the_other_though_the_epoch_is_stale(shared: Cluster) -> None:
    shard = entity_slot("AA2", 2)
    left = {s: 1 for s in range(SLOTS) if s != shard}
    shared.put_shard(shared.settings.table("serving/a"), shard, [], left)
    wait_until(
        lambda: str(shard) not in CLIENT.get(shared.addresses["a"] + "/readyz").json()["shards"],
        10,
        "the pipeline to follow its table",
    )
    for _ in range(6):
        answer = shared.usage("AA2")
        assert answer.status_code == 200
        assert answer.headers[http.NODE] == "b"


@pytest.mark.live
def test_a_killed_pipeline_is_replaced_by_the_other_and_without_any_the_answer_is_503(own: Cluster) -> None:
    own.kill("a")
    for entity in ENTITIES * 2:
        answer = own.usage(entity)
        assert answer.status_code == 200
        assert answer.json()[0]["quantity"] == 1
        assert answer.headers[http.NODE] == "b"
    own.kill("b")
    lost = own.usage("AA1")
    assert lost.status_code == 503
    assert int(lost.headers["Retry-After"]) >= 1
    assert "error" in lost.json()

    # It comes back on another port: the gateway hears of it from the node's own report.
    own.launch(PIPELINE, "b")
    own.await_address("b")
    wait_until(lambda: own.usage("AA1").status_code == 200, 20, "the gateway to find the restarted pipeline")

    assert own.children.pop("g1").stop() == 0
    folder = Path(own.settings.landing_folder("query_record"))
    records = [json.loads(line) for file in folder.glob("*/g1.*.jsonl") for line in file.read_text("utf-8").splitlines()]
    assert list(folder.glob("*/_*")) == []
    assert len({record["record_id"] for record in records}) == len(records)
    answered = [record for record in records if record["status"] == 200]
    assert len(answered) >= 2 * len(ENTITIES)
    assert {record["node_id"] for record in answered} == {"b"}
    assert any("before: a did not answer" in record["reason"] for record in records)
    assert set(records[0]) == {
        *("record_id", "entity_id", "service_id", "operation_id", "range_start", "range_end", "query_class", "event_time"),
        *("candidates", "node_id", "predicted_load", "epoch", "reason", "latency_ms", "bytes", "status", "load_after"),
    }


@pytest.mark.live
def test_without_postgres_queries_go_on_and_a_restarted_gateway_starts_from_its_last_known_good(
    on_own_postgres: Cluster, own_postgres: EmbeddedPostgres
) -> None:
    own = on_own_postgres
    own_postgres.stop()
    assert own.usage("AA1").status_code == 200
    kept = own.settings.home / "gateway" / "g1" / "last_known_good"
    wait_until(kept.exists, 10, "the gateway to keep the epoch it adopted, with or without Postgres")
    own.kill("g1")
    own.launch(GATEWAY, "g1")
    own.await_address("g1")
    answer = own.usage("AA1")
    assert answer.status_code == 200
    assert answer.headers[http.EPOCH] == "1"
    refused = CLIENT.post(own.addresses["g1"] + "/v1/usage-records", content=b"{}")
    assert refused.status_code == 503
    assert "Retry-After" in refused.headers

    assert own_postgres.start() == own.url
    epoch = own.publish()
    wait_until(lambda: own.usage("AA1").headers[http.EPOCH] == str(epoch), 20, "the gateway to hear Postgres again")


def test_a_port_in_use_is_one_sentence() -> None:
    with http.listen("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        with pytest.raises(ForeshardError, match=f"cannot listen on 127.0.0.1 port {port}: .*--port"):
            http.listen("127.0.0.1", port)


def test_times_in_the_future_of_the_calendar_do_not_crash() -> None:
    with pytest.raises(BadQuery):
        instant("start", "9999-12-31T23:59:59-23:00")
    assert instant("start", "2013-11-20T05:00:00 01:00") == HOUR - timedelta(hours=1)
