"""The mirror against real sockets: bounded, never waiting, and comparing rows rather than bytes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx
import pytest

from foreshard.gateway.mirror import Mirror, RealAnswer
from foreshard.gateway.query import Query
from foreshard.gateway.router import Router
from foreshard.gateway.shadow_tally import ShadowTally
from foreshard.model import Node, Replica
from foreshard.routing.snapshot import Shadow, Snapshot

NOW = datetime(2013, 11, 28, 5, tzinfo=UTC)
QUERY = Query("e", "s", "o", NOW, NOW)
ROWS = '[{"start":"2013-11-20T00:00:00Z","quantity":1.50,"events":1}]'
NOTHING = {"compared": 0, "mismatched": 0, "failed": 0, "skipped": 0}


@asynccontextmanager
async def node(reply: bytes | None) -> AsyncIterator[str]:
    """The address of a server that sends these bytes to every request, or never anything."""
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if reply is None:
            await gone.wait()
        else:
            writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        gone.set()
        server.close()


def answer(body: str, status: int = 200, version: str | None = "7") -> bytes:
    said = f"X-Foreshard-Applied-Version: {version}\r\n" if version is not None else ""
    return f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n{said}Connection: close\r\n\r\n{body}".encode()


def snapshot(url: str) -> Snapshot:
    nodes = (Node("a", 1.0, url="http://a"), Node("n", 1.0, url=url))
    return Snapshot("usage", 1, 0, 0, 3600, 7, 90, nodes, (Replica(0, "a"),), shadows=(Shadow(0, "n", None, 1.0),))


async def mirrored(reply: bytes | None, real: RealAnswer, offers: int = 1, most: int = 32) -> dict[str, int]:
    """The outcomes of offers that are made at once, when nothing is in flight any more."""
    async with node(reply) as url, httpx.AsyncClient(trust_env=False) as client:
        router = Router(seed=1)
        router.adopt(snapshot(url))
        tally = ShadowTally("usage", "g1", router.is_shadowed)
        mirror = Mirror(router, client, tally, most_in_flight=most, timeout_seconds=5.0 if reply else 0.2)
        for _ in range(offers):
            mirror.offer(QUERY, {"entity_id": "e"}, real)
        assert tally.outcomes == NOTHING  # offering waits for nothing
        await asyncio.gather(*mirror._tasks)
        assert not router.explain(QUERY, now=NOW)[0]["left_out"]
        return {outcome: count for outcome, count in tally.outcomes.items() if count}


def real(body: str = ROWS, version: int | None = 7) -> RealAnswer:
    return RealAnswer("a", body.encode(), version, 0.004)


@pytest.mark.parametrize(
    ("reply", "outcomes"),
    [
        (answer(ROWS), {"compared": 1}),
        (answer(json.dumps(json.loads(ROWS), indent=2, sort_keys=True)), {"compared": 1}),
        (answer(ROWS.replace("1.50", "1.51")), {"compared": 1, "mismatched": 1}),
        (answer(ROWS.replace("1.50", "1.5000000000000000000000001")), {"compared": 1, "mismatched": 1}),
        (answer("[]"), {"compared": 1, "mismatched": 1}),
        (answer("no JSON"), {"compared": 1, "mismatched": 1}),
        (answer("[]", version="8"), {"skipped": 1}),
        (answer("[]", version=None), {"skipped": 1}),
        (answer("not-mine; epoch=1", 503), {"failed": 1}),
        (answer("behind; version=1", 425), {"failed": 1}),
        (answer("oh", 500), {"failed": 1}),
        (b"", {"failed": 1}),
        (b"no HTTP\r\n\r\n", {"failed": 1}),
    ],
)
def test_answers_are_judged_by_version_and_rows(reply: bytes, outcomes: dict[str, int]) -> None:
    assert asyncio.run(mirrored(reply, real())) == outcomes


def test_an_old_replica_that_does_not_say_its_version_is_not_compared() -> None:
    assert asyncio.run(mirrored(answer(ROWS), real(version=None))) == {"skipped": 1}


def test_a_new_replica_that_hangs_holds_up_a_bounded_number_of_queries() -> None:
    assert asyncio.run(mirrored(None, real(), offers=20, most=8)) == {"failed": 8}


def test_what_the_node_itself_answered_is_not_compared_with_itself() -> None:
    assert asyncio.run(mirrored(answer(ROWS), RealAnswer("n", ROWS.encode(), 7, 0.004))) == {}


def test_counts_of_many_threads_are_all_kept() -> None:
    tally = ShadowTally("usage", "g1", lambda key: True)

    def count() -> None:
        for _ in range(500):
            tally.answered((1, 0, "n"), 1.0, 2.0, True, "")
            tally.failed((1, 0, "n"), "")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.outcomes == {**NOTHING, "compared": 2000, "failed": 2000}
