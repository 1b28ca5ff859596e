"""The records of answered queries: those of a sample name the nodes that were compared."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from foreshard.gateway.answering import Answering
from foreshard.gateway.dispatch import Dispatcher
from foreshard.gateway.pipeline_client import PipelineClient
from foreshard.gateway.pool_load import PoolLoad
from foreshard.gateway.query import Query
from foreshard.gateway.query_log import QueryLog
from foreshard.gateway.router import Router
from foreshard.model import Node, Replica
from foreshard.routing.snapshot import Snapshot

NOW = datetime(2013, 11, 28, 5, tzinfo=UTC)
ASKED = Query("e", "s", "o", NOW, NOW + timedelta(hours=1))
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Foreshard-Load: 3.5\r\nConnection: close\r\n\r\n[]"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(ANSWER)
    await writer.drain()
    writer.close()


async def asked(folder: Path, times: int, one_in: int) -> list[dict[str, object]]:
    """The records of so many queries, in their order, where two nodes hold the shard."""
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    url = "http://{}:{}".format(*server.sockets[0].getsockname()[:2])
    nodes = (Node("a", 1.0, url=url), Node("b", 1.0, url=url))
    router, client, log = Router(seed=1), PipelineClient(), QueryLog(str(folder), "g1")
    router.adopt(Snapshot("usage", 1, 0, 0, 3600, 7, 90, nodes, (Replica(0, "a"), Replica(0, "b"))))
    dispatcher = Dispatcher(router, client, lambda: None, lambda: NOW)
    answering = Answering(router, dispatcher, log, PoolLoad(), None, {}, lambda: NOW, one_in)
    for _ in range(times):
        answer = await answering.answer(ASKED, "hour", None, time.monotonic() + 5, answering.arrival())
        assert answer.status == 200
    await asyncio.to_thread(log.close)
    await client.close()
    server.close()
    return [json.loads(line) for file in folder.glob("*/*.jsonl") for line in file.read_text("utf-8").splitlines()]


@pytest.mark.parametrize(("one_in", "named"), [(1, [0, 1, 2, 3, 4, 5]), (3, [0, 3]), (100, [0])])
def test_one_record_in_so_many_names_who_was_compared(tmp_path: Path, one_in: int, named: list[int]) -> None:
    records = asyncio.run(asked(tmp_path, 6, one_in))
    assert [place for place, record in enumerate(records) if record["candidates"]] == named
    for record in records:
        compared = record["candidates"]
        assert isinstance(compared, list)
        assert len(compared) in (0, 2)
        if compared:
            best = min(compared, key=lambda candidate: candidate["score"])
            assert best["node_id"] == record["node_id"]
        assert record["load_after"] == 3.5
