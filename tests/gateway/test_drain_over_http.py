"""Stopping and being full, with real processes: readiness turns first, what is in hand is finished, the rest is told when."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from live_cluster import CLIENT, Cluster, PutShard, running

from foreshard.gateway import http
from foreshard.local.processes import wait_until
from foreshard.routing import database

_SETTINGS = """
[gateway]
drain_seconds = 2
[[gateway.classes]]
name = "gold"
share = 0.5
[[gateway.classes]]
name = "bronze"
share = 0.1
"""


@pytest.fixture
def small(tmp_path: Path, put_shard: PutShard, database: str) -> Iterator[Cluster]:
    """A pool that can answer 20 queries per second."""
    yield from running(Cluster(tmp_path, put_shard, database, settings=_SETTINGS))


@pytest.mark.live
def test_what_does_not_fit_is_refused_by_class_and_told_when_to_come_again(small: Cluster) -> None:
    def ask(query_class: str) -> httpx.Response:
        return small.usage("AA1", {http.CLASS: query_class})

    refused: list[httpx.Response] = []

    def is_full() -> bool:
        refused[:] = [answer for answer in (ask("bronze") for _ in range(50)) if answer.status_code == 429]
        return bool(refused)

    wait_until(is_full, 30, "the pool to be full")
    assert ask("gold").status_code == 200
    assert int(refused[-1].headers["Retry-After"]) >= 1
    assert "class bronze" in refused[-1].json()["error"]
    metrics = CLIENT.get(small.addresses["g1"] + "/metrics").text
    assert 'foreshard_gateway_query_seconds_count{class="bronze",status="429"}' in metrics
    told = CLIENT.post(
        small.addresses["g1"] + "/v1/usage",
        json={"queries": [dict(refused[0].request.url.params)] * 40},
        headers={http.CLASS: "bronze"},
    ).json()["answers"]
    assert all(answer["retry_after"] >= 1 for answer in told if answer["status"] == 429)
    assert 429 in {answer["status"] for answer in told}


@pytest.mark.live
def test_a_gateway_that_is_asked_to_stop_says_so_finishes_and_gives_its_lease_up(small: Cluster) -> None:
    written = CLIENT.post(small.addresses["g1"] + "/v1/usage-records", content=json.dumps([{"entity_id": "AA1"}]))
    token, answers = {http.TOKEN: written.json()["token"]}, list[httpx.Response]()
    # Waits for its write, which is not applied, beyond the time at which the gateway stops to answer others.
    waiting = threading.Thread(target=lambda: answers.append(small.usage("AA1", token, wait="5")))
    waiting.start()
    address, child = small.addresses["g1"], small.children["g1"]

    def in_hand() -> bool:
        return small.usage("AA1", {http.CLASS: "gold"}).status_code == 200

    wait_until(in_hand, 10, "the gateway to answer")
    child.process.send_signal(signal.SIGTERM)
    wait_until(lambda: CLIENT.get(address + "/readyz").status_code == 503, 2, "readiness to turn")
    still = small.usage("AA1", {http.CLASS: "gold"})
    assert (still.status_code, still.headers["connection"]) == (200, "close")
    assert database.query(small.url, "count_gateways", {"pool_id": "usage"}) == [{"gateways": 1}]
    waiting.join()
    assert answers[0].status_code == 425
    assert child.process.wait(20) == 0
    assert database.query(small.url, "count_gateways", {"pool_id": "usage"}) == [{"gateways": 0}]


@pytest.mark.live
def test_a_pipeline_is_ready_when_its_table_is_loaded_and_no_more_when_it_goes(small: Cluster) -> None:
    address = small.addresses["a"]
    ready = CLIENT.get(address + "/readyz").json()
    assert ready["shards"] == {str(shard): 1 for shard in range(4)}
    small.children["a"].process.send_signal(signal.SIGTERM)
    wait_until(lambda: CLIENT.get(address + "/readyz").status_code == 503, 2, "readiness to turn")
    assert CLIENT.get(address + "/healthz").status_code == 200
    assert small.children["a"].process.wait(20) == 0
