"""Replaying landed queries against a real HTTP server that answers as a gateway does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from foreshard.demo.traffic import NO_ANSWER, asking, read_queries, replay, sample_queries
from foreshard.errors import ForeshardError
from foreshard.gateway import http


class AnsweringServer:
    """Flight XX1 is on pipeline-a, XX2 on pipeline-b, XX3 is refused with 503; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.in_flight = self.most_in_flight = 0
        self._socket = http.listen("127.0.0.1", 0)
        self.url = http.address(self._socket)
        config = uvicorn.Config(Starlette(routes=[Route("/v1/usage", self._usage)]), log_level="warning", access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()

    async def _usage(self, request: Request) -> Response:
        self.asked.append({**request.query_params, "class": request.headers[http.CLASS]})
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0.002)  # lets the other connections' requests in
        self.in_flight -= 1
        entity = request.query_params["entity_id"]
        if entity == "XX3":
            return http.not_mine(4, {})
        return JSONResponse([], headers={http.NODE: {"XX1": "pipeline-a", "XX2": "pipeline-b"}[entity], http.EPOCH: "4"})

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._socket.close()


@pytest.fixture
def server() -> Iterator[AnsweringServer]:
    started = AnsweringServer()
    yield started
    started.stop()


def query(entity: str, day: int = 27) -> dict[str, Any]:
    return {
        "entity_id": entity,
        "service_id": "LGA",
        "operation_id": "departed",
        "range_start": "2013-11-20T00:00:00Z",
        "range_end": f"2013-11-{day}T22:00:02.594Z",
        "query_class": "interactive",
    }


def test_every_query_is_asked_once_and_counted_by_its_pipeline(server: AnsweringServer) -> None:
    result = replay(server.url, [query("XX1")] * 60 + [query("XX2")] * 30 + [query("XX3")] * 10, concurrency=4)
    assert (result.sent, result.answered) == (100, 90)
    assert result.by_node == {"pipeline-a": 60, "pipeline-b": 30}
    assert result.by_epoch == {"4": 90}
    assert result.statuses == {"200": 90, "503": 10}
    assert len(server.asked) == 100
    assert server.asked[0] == {
        "entity_id": "XX1",
        "service_id": "LGA",
        "operation_id": "departed",
        "start": "2013-11-20T00:00:00Z",
        "end": "2013-11-27T22:00:02.594Z",
        "class": "interactive",
    }
    assert result.latency.p50_ms is not None
    assert result.latency.p99_ms is not None
    assert 2 <= result.latency.p50_ms <= result.latency.p99_ms <= result.seconds * 1000
    assert {n: latency.answered for n, latency in result.latency_by_node.items()} == result.by_node


def test_no_more_than_the_bound_are_in_flight(server: AnsweringServer) -> None:
    replay(server.url, [query("XX1")] * 80, concurrency=5)
    assert 2 <= server.most_in_flight <= 5


def test_queries_are_asked_over_and_over_while_something_goes_on(server: AnsweringServer) -> None:
    with asking(server.url, [query("XX1"), query("XX3")], per_second=200) as so_far:
        while so_far().sent < 6:
            pass
        some = so_far()
    assert some.sent >= 6
    assert {entity["entity_id"] for entity in server.asked} == {"XX1", "XX3"}
    assert some.answered == some.by_node["pipeline-a"] >= 3
    assert so_far().sent <= len(server.asked), "it has ended with the block"


def test_a_gateway_that_is_gone_is_counted_and_not_raised(server: AnsweringServer) -> None:
    server.stop()
    result = replay(server.url, [query("XX1")] * 3)
    assert (result.sent, result.answered, result.statuses) == (3, 0, {NO_ANSWER: 3})
    assert result.latency.p50_ms is None


def test_a_sample_is_drawn_once_in_order_and_repeats(tmp_path: Path) -> None:
    paths = []
    for day in (26, 27):
        paths.append(tmp_path / f"{day}.jsonl")
        paths[-1].write_text("".join(f'{{"entity_id": "XX{i}", "day": {day}}}\n' for i in range(50)))
    whole = [q for p in paths for q in read_queries(p)]
    sample = sample_queries(paths, 20)
    assert len(whole) == 100
    assert sample == sample_queries(paths, 20)
    assert sample == [q for q in whole if q in sample]
    assert len(sample) == 20
    assert sample_queries(paths, 500) == whole


def test_unreadable_queries_are_named(tmp_path: Path) -> None:
    bad = tmp_path / "gateway.jsonl"
    bad.write_text('{"entity_id": "XX1"}\n{"entity_id"\n')
    with pytest.raises(ForeshardError, match=r"gateway\.jsonl line 2 is not JSON"):
        read_queries(bad)
    with pytest.raises(ForeshardError, match="cannot read the landed queries"):
        read_queries(tmp_path / "missing.jsonl")
