"""Pipelines that contradict themselves, over real sockets: none is believed, and the caller gets the other's answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import pytest

from foreshard.gateway import http
from foreshard.gateway.dispatch import Answer, Dispatcher
from foreshard.gateway.pipeline_client import PipelineClient
from foreshard.gateway.query import Query
from foreshard.gateway.router import Router
from foreshard.model import Node, Replica
from foreshard.routing.snapshot import Snapshot

NOW = datetime(2013, 11, 28, 5, tzinfo=UTC)
QUERY = Query("e", "s", "o", NOW, NOW)
ROWS = b'[{"start":"2013-11-20T00:00:00Z","quantity":1,"events":1}]'
HONEST = {http.NODE: "honest", http.APPLIED_VERSION: "7", http.LOAD: "1"}


def reply(status: int, headers: Mapping[str, str], body: bytes = ROWS) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


@asynccontextmanager
async def node(said: bytes) -> AsyncIterator[str]:
    """The address of a server that says this to every request, on kept connections."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def asked(nodes: Mapping[str, bytes], times: int, minimum_version: int | None = None) -> tuple[list[Answer], int]:
    """The answers to queries one after another, and how often the router's epoch was looked for anew."""
    pokes: list[None] = []
    async with AsyncExitStack() as stack:
        urls = {name: await stack.enter_async_context(node(said)) for name, said in nodes.items()}
        told = tuple(Node(name, 10.0, url=url) for name, url in urls.items())
        router = Router(seed=1)
        router.adopt(Snapshot("usage", 1, 0, 0, 3600, 7, 90, told, tuple(Replica(0, name) for name in urls)))
        client = PipelineClient(timeout_seconds=5)
        stack.push_async_callback(client.close)
        dispatcher = Dispatcher(router, client, lambda: pokes.append(None), lambda: NOW)
        answers = [await dispatcher.ask(QUERY, {"entity_id": "e"}, minimum_version, time.monotonic()) for _ in range(times)]
    return answers, len(pokes)


LIES = {
    "another node's name": reply(200, {**HONEST, http.NODE: "somebody-else"}, b"[]"),
    "not mine, and an epoch that never comes": reply(503, {http.NODE: "liar"}, b"not-mine; epoch=999999"),
    "not mine, and an epoch beyond numbers": reply(503, {http.NODE: "liar"}, b"not-mine; epoch=" + b"9" * 4000),
    "an endless refusal": reply(503, {http.NODE: "liar"}, b"x" * (1 << 20)),
    "a page that is not there": reply(404, {}, b"<html>"),
    "a redirect": reply(302, {"Location": "http://127.0.0.1:1/"}, b""),
    "no HTTP": b"\x00\x01\x02\r\n\r\n",
    "headers without an end": b"HTTP/1.1 200 x\r\nX-Long: " + b"y" * 100_000 + b"\r\n\r\n",
    "a length that is none": b"HTTP/1.1 200 x\r\nContent-Length: many\r\n\r\n",
    "a load beyond numbers": reply(500, {http.LOAD: "nan", http.APPLIED_VERSION: "-1", http.NODE: "liar"}),
}


@pytest.mark.parametrize("lie", list(LIES))
def test_a_pipeline_that_is_not_to_be_believed_is_passed_over(lie: str) -> None:
    answers, pokes = asyncio.run(asked({"liar": LIES[lie], "honest": reply(200, HONEST)}, 12))
    assert {(a.status, a.body, a.decision.node_id) for a in answers} == {(200, ROWS, "honest")}
    assert any("before: liar" in a.reason for a in answers)
    # It says so with every refusal; it is believed once.
    assert pokes == (1 if "never comes" in lie else 0)


@pytest.mark.parametrize("lie", list(LIES))
def test_with_nobody_else_to_ask_the_answer_is_503(lie: str) -> None:
    answers, _ = asyncio.run(asked({"liar": LIES[lie]}, 2))
    assert {a.status for a in answers} == {503}
    assert all(a.retry_after and a.retry_after > 0 for a in answers)


def test_an_answer_that_says_itself_that_it_is_too_old_is_never_passed_on() -> None:
    old = {name: reply(200, {http.NODE: name, http.APPLIED_VERSION: "3"}) for name in ("a", "b")}
    answers, _ = asyncio.run(asked(old, 3, minimum_version=5))
    assert {(a.status, a.body) for a in answers} == {(425, b"")}
    answers, _ = asyncio.run(asked({**old, "c": reply(200, {http.NODE: "c", http.APPLIED_VERSION: "5"})}, 3, minimum_version=5))
    assert {(a.status, a.decision.node_id) for a in answers} == {(200, "c")}


def test_a_query_that_pipelines_do_not_take_is_refused_and_ejects_nobody() -> None:
    answers, _ = asyncio.run(asked({"a": reply(400, {http.NODE: "a"}, b"no")}, 8))
    assert {a.status for a in answers} == {400}


def test_a_pipeline_may_leave_out_what_it_need_not_say() -> None:
    answers, _ = asyncio.run(asked({"a": reply(200, {})}, 2, minimum_version=5))
    assert {(a.status, a.body) for a in answers} == {(200, ROWS)}
