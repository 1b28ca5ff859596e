"""The reference pipeline: answers get-usage over HTTP from its serving table, and refuses what it does not hold.

The pipeline is the authority: `503 not-mine; epoch=N` for a shard (or a time) it does not hold, `425 behind; version=V`
for a version it has not reached, and never an empty answer in their place.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal

import psycopg2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from foreshard.errors import ForeshardError
from foreshard.gateway import http, openapi, operations, query, transfers
from foreshard.gateway.keys import STANDARD
from foreshard.gateway.latency_histogram import LatencyHistogram
from foreshard.gateway.load_meter import LoadMeter
from foreshard.gateway.query import BadQuery, Query
from foreshard.gateway.serving_copy import Behind, NotMine, Row, ServingCopy, follow
from foreshard.gateway_settings import CLASS_NAME
from foreshard.local.postgres import resolve_url
from foreshard.routing import pool, store
from foreshard.settings import Settings
from foreshard.transition import negotiation

POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 3.0
# Between two heartbeats, so that a plan of many moves does not make the node look silent.
ANSWERS_AT_ONCE = 50


class Pipeline:
    """One node's requests, its copy of the serving table, its heartbeat, and its answers to moves."""

    def __init__(self, settings: Settings, node_id: str, url: str) -> None:
        self._settings, self._node_id, self._url = settings, node_id, url
        self._copy = ServingCopy(settings.table(f"serving/{node_id}"))
        self._load = LoadMeter()
        self._answers: Counter[int] = Counter()
        self._epoch = 0  # as last heard from Postgres
        self._incarnation = uuid.uuid4().hex
        self._asked_to_stop = False
        self._is_warm = False
        self._latencies = LatencyHistogram("foreshard_pipeline_query_seconds")
        self._stopping, self._due = threading.Event(), threading.Event()  # `due`: a heartbeat
        following = (self._copy, self._stopping, POLL_SECONDS, _report, self._followed)
        self._threads = [
            threading.Thread(target=follow, args=following, daemon=True),
            threading.Thread(target=self._beat, name="heartbeat", daemon=True),
        ]

    def app(self) -> Starlette:
        endpoints: dict[str, openapi.Endpoint] = {
            "usage": self._usage,
            "healthz": self._healthz,
            "readyz": self._readyz,
            "metrics": self._metrics,
        }
        return openapi.application("foreshard pipeline", operations.PIPELINE, endpoints, self._lifespan)

    def asked_to_stop(self) -> None:
        """From now on no move may bring anything here. Takes no lock: a signal's handler calls it."""
        self._asked_to_stop = True

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        for thread in self._threads:
            thread.start()
        yield
        self._asked_to_stop = True
        self._stopping.set()
        self._due.set()
        for thread in self._threads:
            await asyncio.to_thread(thread.join, 5.0)
        self._copy.close()

    async def _usage(self, request: Request) -> Response:
        begin = time.monotonic()
        response = await run_in_threadpool(self._answer, request)
        self._answers[response.status_code] += 1
        query_class = request.headers.get(http.CLASS, STANDARD)
        known = query_class if CLASS_NAME.fullmatch(query_class) else "none"
        self._latencies.observe(known, response.status_code, time.monotonic() - begin)
        return response

    def _answer(self, request: Request) -> Response:
        try:
            asked, granularity = query.from_parameters(request.query_params, request.headers.get(http.CLASS, STANDARD))
            shard_id = _whole(request, http.SHARD)
            minimum_version = _whole(request, http.MINIMUM_VERSION)
            if shard_id is None:
                raise BadQuery(f"the header {http.SHARD} must name the shard that is asked for")
        except BadQuery as error:
            return http.error(400, str(error), headers=self._headers())
        if not self._copy.is_known:
            return http.error(503, "the serving table is still being loaded; come again", 1, self._headers())
        begin = time.monotonic()
        self._load.add(self._settings.operation_cost.get(asked.operation_id, 1.0))
        try:
            rows, version = self._copy.usage(shard_id, asked, granularity, minimum_version)
        except NotMine:
            return http.not_mine(self._epoch, self._headers())
        except Behind as error:
            return http.behind(error.applied_version, self._headers(error.applied_version))
        body = as_json(rows)
        self._load.took(time.monotonic() - begin)
        return Response(body, headers=self._headers(version), media_type="application/json")

    def _headers(self, version: int | None = None) -> dict[str, str]:
        found = {http.NODE: self._node_id, http.LOAD: f"{self._load.value():.6g}"}
        return found if version is None else {**found, http.APPLIED_VERSION: str(version)}

    async def _healthz(self, request: Request) -> Response:
        return JSONResponse({"node_id": self._node_id})

    async def _readyz(self, request: Request) -> Response:
        if not self._is_warm:
            return http.error(503, "the serving table is still being loaded; come again", 1)
        if self._asked_to_stop:
            return http.error(503, "this pipeline was asked to stop; ask another", 1)
        shards = {str(shard): version for shard, version in sorted(self._copy.applied_versions.items())}
        return JSONResponse({"node_id": self._node_id, "table_version": self._copy.version, "shards": shards})

    async def _metrics(self, request: Request) -> Response:
        answers = {f'foreshard_pipeline_answers_total{{status="{s}"}}': float(n) for s, n in sorted(self._answers.items())}
        return http.metrics(
            {
                **answers,
                "foreshard_pipeline_load": self._load.value(),
                "foreshard_pipeline_shards": len(self._copy.applied_versions),
                "foreshard_pipeline_table_version": self._copy.version,
                "foreshard_pipeline_epoch": self._epoch,
            },
            self._latencies.lines(),
        )

    def _followed(self) -> None:
        """Other shards are held than before: the next heartbeat is due. At the first time each is asked once.

        The rows are in memory by then; what remains is what a database does at its first queries.
        """
        self._due.set()
        if not self._is_warm:
            # A time that hot replicas cover too.
            nobody = Query(" ", " ", " ", datetime(9998, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
            for shard_id in self._copy.applied_versions:
                self._copy.usage(shard_id, nobody, "hour", None)
            self._is_warm = True

    def _beat(self) -> None:
        """Says where this node is, its load and its versions; queries go on whether Postgres answers or not."""
        problem = ""
        while True:
            is_last = self._stopping.is_set()
            try:
                url = resolve_url(self._settings)
                if not is_last:  # a node that goes does not say that it is there
                    self._beat_once(url)
                self._answer_transfers(url)
                problem = ""
            except (ForeshardError, psycopg2.Error, OSError) as error:
                sentence = " ".join(str(error).split())
                if sentence != problem:
                    _report(f"pipeline {self._node_id}: no heartbeat, it is tried again: {sentence}")
                problem = sentence
            if is_last:
                return
            self._due.wait(HEARTBEAT_SECONDS)
            self._due.clear()

    def _beat_once(self, url: str) -> None:
        pool_id = self._settings.pool_id
        pool.set_node_url(url, pool_id, self._node_id, self._url)
        self._epoch = pool.read_pool(url, pool_id).current_epoch
        if self._copy.is_known:
            load, held = self._load.value(), self._copy.applied_versions
            seconds, incarnation = self._load.service_seconds(), self._incarnation
            store.write_heartbeat(url, pool_id, self._node_id, load, held, incarnation=incarnation, service_seconds=seconds)

    def _answer_transfers(self, url: str) -> None:
        """Says to each move that concerns this node, once, whether it may go on."""
        pool_id = self._settings.pool_id
        if not self._copy.is_known:
            return
        open_ones = negotiation.open_transfers(url, pool_id, self._node_id)
        room = transfers.free_bytes(self._settings.table(f"serving/{self._node_id}")) if open_ones else None
        for transfer in open_ones[:ANSWERS_AT_ONCE]:
            said = transfers.answer_to(transfer, self._copy.applied_versions, self._asked_to_stop, room)
            negotiation.answer(url, pool_id, transfer, said.accepted, said.detail)
        if len(open_ones) > ANSWERS_AT_ONCE:
            self._due.set()


def run_pipeline(
    settings: Settings,
    node_id: str,
    host: str = "127.0.0.1",
    port: int = 0,
    announce: Callable[[str], None] = lambda sentence: print(sentence, flush=True),
) -> None:
    """Serves until TERM; prints one line with its address first. Raises ForeshardError if the port cannot be had."""
    bound = http.listen(host, port)
    declared = next((n.url for n in settings.nodes if n.node_id == node_id), "")
    announce(f"pipeline {node_id} listens on {http.address(bound)}")
    pipeline = Pipeline(settings, node_id, declared or http.address(bound))
    http.serve(pipeline.app(), bound, pipeline.asked_to_stop, settings.gateway)


def as_json(rows: list[Row]) -> str:
    """A JSON array; quantities are decimal literals with all their digits."""
    return "[" + ",".join(_row_json(*row) for row in rows) + "]"


def _row_json(start: object, quantity: Decimal, events: int) -> str:
    moment = f"{start:%Y-%m-%dT%H:%M:%SZ}"
    return f'{{"start":"{moment}","quantity":{_plain(quantity)},"events":{events}}}'


def _plain(quantity: Decimal) -> str:
    text = f"{quantity:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _whole(request: Request, header: str) -> int | None:
    text = request.headers.get(header)
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 18:
        raise BadQuery(f"the header {header} must be a whole number, not {text[:40]!r}")
    return int(text)


def _report(sentence: str) -> None:
    print(f"{time.strftime('%H:%M:%S', time.gmtime())} {sentence}", file=sys.stderr, flush=True)
