"""The reference gateway: get-usage over HTTP, routed to the pipeline that answers it best; writes, tokens, query log."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from foreshard.errors import ForeshardError, Refused
from foreshard.gateway import http, openapi, operations, query, query_batch, tokens
from foreshard.gateway.admission import Admission
from foreshard.gateway.answering import NO_NODE, PENDING, Answering, sentence
from foreshard.gateway.dispatch import Answer, Dispatcher
from foreshard.gateway.keys import Keys, NoKey, key_in
from foreshard.gateway.latency_histogram import LatencyHistogram
from foreshard.gateway.limits import BodyRefused, read_body
from foreshard.gateway.mirror import Mirror
from foreshard.gateway.pipeline_client import PipelineClient
from foreshard.gateway.pool_load import PoolLoad
from foreshard.gateway.query import BadQuery, Query
from foreshard.gateway.query_log import QueryLog
from foreshard.gateway.router import Router
from foreshard.gateway.shadow_tally import ShadowTally
from foreshard.gateway.subscriber import Subscriber
from foreshard.gateway.writes import LARGEST_BODY, NotJson, Writes
from foreshard.gateway_settings import CLASS_NAME
from foreshard.local.postgres import resolve_url
from foreshard.routing import database
from foreshard.settings import Settings

_CLOSE = {"Connection": "close"}
# The class of answers to whoever could not be told to be in one.
_NO_CLASS = "none"


class Gateway:
    """Everything of one gateway process; its application's lifespan starts and stops the background threads."""

    def __init__(self, settings: Settings, gateway_id: str, clock: Callable[[], datetime]) -> None:
        """Raises ForeshardError if the keys, the token secret or the query log's folder cannot be used."""
        self._settings, self._limits, self._gateway_id, self._clock = settings, settings.gateway, gateway_id, clock
        self._keys = Keys(self._limits.classes, self._limits.keys_file)
        log = self._log = QueryLog(settings.landing_folder("query_record"), gateway_id, clock=clock)

        def url() -> str:
            return resolve_url(settings)

        secret = tokens.load_secret(settings.home)
        self._writes = Writes(settings.landing_folder("usage_record"), settings.pool_id, gateway_id, secret, url, clock)
        self._router = Router(operation_cost=settings.operation_cost)
        file = settings.home / "gateway" / gateway_id / "last_known_good"
        self._shadows = ShadowTally(settings.pool_id, gateway_id, self._router.is_shadowed)
        self._subscriber = Subscriber(self._router, url, settings.pool_id, gateway_id, file, each_turn=self._each_turn)
        # The mirror's alone: nobody waits for what it asks.
        self._mirror_client = httpx.AsyncClient(
            timeout=httpx.Timeout(10.0, connect=1.0),
            # Pipelines close a connection that was idle for 5 seconds: one that is given up before is never closed in use.
            limits=httpx.Limits(max_connections=400, max_keepalive_connections=200, keepalive_expiry=4.0),
            trust_env=False,  # a proxy of the environment is not between a gateway and its pipelines
        )
        self._mirror = Mirror(self._router, self._mirror_client, self._shadows)
        self._client = PipelineClient()
        self._pool_load = PoolLoad()
        poke, reported = self._subscriber.poke, self._pool_load.reported
        dispatcher = Dispatcher(self._router, self._client, poke, clock, self._mirror, reported)
        classes, cost = self._limits.classes, settings.operation_cost
        admission = Admission(classes, time.monotonic()) if classes else None
        one_in = self._limits.candidates_one_in
        self._answering = Answering(self._router, dispatcher, log, self._pool_load, admission, cost, clock, one_in)
        self._answers: Counter[int] = Counter()
        self._latencies = LatencyHistogram("foreshard_gateway_query_seconds")
        self._is_stopping = False

    def app(self) -> Starlette:
        endpoints: dict[str, openapi.Endpoint] = {
            "usage": self._usage,
            "usage_batch": self._usage_batch,
            "write": self._write,
            "routes": self._routes,
            "healthz": self._healthz,
            "readyz": self._readyz,
            "metrics": self._metrics,
        }
        with_keys = not self._keys.is_open
        return openapi.application("foreshard gateway", operations.GATEWAY, endpoints, self._lifespan, has_keys=with_keys)

    def asked_to_stop(self) -> None:
        """From now on it says that it is not ready. Takes no lock: a signal's handler calls it."""
        self._is_stopping = True

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(self._subscriber.start)
        yield
        # The requests in hand are finished by now: only then is the lease given up.
        await self._mirror.close()
        await asyncio.to_thread(self._subscriber.stop)
        await self._client.close()
        await self._mirror_client.aclose()
        await asyncio.to_thread(self._log.close)

    def _each_turn(self, url: str) -> None:
        self._shadows.write(url)
        if self._limits.classes:
            self._pool_load.gateways = database.query(url, "count_gateways", {"pool_id": self._settings.pool_id})[0]["gateways"]

    async def _usage(self, request: Request) -> Response:
        came = self._answering.arrival()
        query_class = _NO_CLASS
        try:
            query_class = self._class(request)
            asked, granularity = query.from_parameters(request.query_params, query_class)
            deadline = came.begin + _wait(request)
            version = await self._minimum_version(request, deadline)
            response = _response(await self._answering.answer(asked, granularity, version, deadline, came))
        except ForeshardError as error:
            response = _refusal(error)
        return self._counted(response, query_class, came.begin)

    async def _usage_batch(self, request: Request) -> Response:
        came = self._answering.arrival()
        query_class = _NO_CLASS
        try:
            query_class = self._class(request)
            body = await read_body(request, query_batch.LARGEST_BODY, self._limits.body_seconds)
            queries = query_batch.parse(body, self._limits.batch_queries)
            deadline = came.begin + _wait(request)
            version = await self._minimum_version(request, deadline)

            async def ask(asked: Query, granularity: str) -> Answer:
                each = self._answering.arrival()
                answer = await self._answering.answer(asked, granularity, version, deadline, each)
                self._observe(answer.status, query_class, each.begin)
                return answer

            found = await query_batch.answer(queries, query_class, ask, sentence)
        except ForeshardError as error:
            return self._counted(_refusal(error), query_class, came.begin)
        return Response(found, media_type=openapi.JSON)

    def _class(self, request: Request) -> str:
        return self._keys.class_of(key_in(request.headers), request.headers.get(http.CLASS))

    async def _minimum_version(self, request: Request, deadline: float) -> int | None:
        """The version that the request's token asks for, PENDING if its write is not applied by the deadline."""
        token = request.headers.get(http.TOKEN) or request.query_params.get("token")
        if not token:
            return None
        version = await self._writes.resolve(token, deadline)
        return PENDING if version is None else version

    async def _write(self, request: Request) -> Response:
        try:
            self._class(request)
            body = await read_body(request, LARGEST_BODY, self._limits.body_seconds)
            landed = await asyncio.to_thread(self._writes.land, body)
        except ForeshardError as error:
            return _refusal(error)
        return JSONResponse(
            {"token": landed.token, "file_name": landed.file_name, "rows": landed.rows}, 202, {http.TOKEN: landed.token}
        )

    async def _routes(self, request: Request) -> Response:
        """How a query of this entity would be routed now; `start` narrows it to replicas that reach back so far."""
        parameters, now = request.query_params, self._clock()
        table = self._router.table
        try:
            self._class(request)
            start = query.instant("start", parameters["start"]) if "start" in parameters else now
            entity_id = query.name(parameters, "entity_id")
        except ForeshardError as error:
            return _refusal(error)
        if table is None:
            return http.error(503, "no epoch has been published or adopted yet", 1)
        asked = Query(entity_id, parameters.get("service_id", ""), parameters.get("operation_id", ""), start, now)
        return JSONResponse(
            {
                "entity_id": entity_id,
                "shard_id": table.shard_of(entity_id),
                "epoch": table.epoch,
                "staleness_seconds": round(self._subscriber.staleness_seconds, 3),
                "replicas": self._router.explain(asked, now=now),
            }
        )

    async def _healthz(self, request: Request) -> Response:
        return JSONResponse({"gateway_id": self._gateway_id})

    async def _readyz(self, request: Request) -> Response:
        if not self._router.epoch:
            return http.error(503, "no epoch has been published or adopted yet", 1)
        if self._is_stopping:
            return http.error(503, "this gateway was asked to stop; ask another", 1)
        staleness = round(self._subscriber.staleness_seconds, 3)
        return JSONResponse({"gateway_id": self._gateway_id, "epoch": self._router.epoch, "staleness_seconds": staleness})

    async def _metrics(self, request: Request) -> Response:
        answers = {f'foreshard_gateway_answers_total{{status="{s}"}}': float(n) for s, n in sorted(self._answers.items())}
        shadows = {f"foreshard_gateway_shadow_{outcome}_total": float(n) for outcome, n in self._shadows.outcomes.items()}
        desired = self._subscriber.desired_nodes
        return http.metrics(
            {
                **answers,
                **shadows,
                **({} if desired is None else {"foreshard_pool_desired_nodes": float(desired)}),
                "foreshard_gateway_query_seconds_total": self._answering.seconds,
                "foreshard_gateway_epoch": self._router.epoch,
                "foreshard_gateway_staleness_seconds": self._subscriber.staleness_seconds,
                "foreshard_gateway_query_records_total": self._log.written,
                "foreshard_gateway_query_records_dropped_total": self._log.dropped,
            },
            self._latencies.lines(),
        )

    def _counted(self, response: Response, query_class: str, begin: float) -> Response:
        self._observe(response.status_code, query_class, begin)
        return response

    def _observe(self, status: int, query_class: str, begin: float) -> None:
        self._answers[status] += 1
        known = query_class if CLASS_NAME.fullmatch(query_class) else _NO_CLASS
        self._latencies.observe(known, status, time.monotonic() - begin)


def run_gateway(
    settings: Settings,
    gateway_id: str,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    clock_starts_at: datetime | None = None,
    announce: Callable[[str], None] = lambda sentence: print(sentence, flush=True),
) -> None:
    """Serves until TERM; prints one line with its address first. Raises ForeshardError if the port cannot be had.

    `clock_starts_at` (UTC) lets the gateway live at another time, for replaying a log of the past; its clock runs from there.
    """
    offset = clock_starts_at - datetime.now(UTC) if clock_starts_at else timedelta(0)
    bound = http.listen(host, port)
    gateway = Gateway(settings, gateway_id, lambda: datetime.now(UTC) + offset)
    announce(f"gateway {gateway_id} listens on {http.address(bound)}")
    http.serve(gateway.app(), bound, gateway.asked_to_stop, settings.gateway)


def _response(answer: Answer) -> Response:
    decision = answer.decision
    headers = {
        http.EPOCH: str(decision.epoch),
        http.NODE: decision.node_id or NO_NODE,
        http.REASON: http.header_text(answer.reason),
    }
    if answer.status != 200:
        return http.error(answer.status, sentence(answer), answer.retry_after, headers)
    return Response(answer.body, 200, headers, openapi.JSON)


def _refusal(error: ForeshardError) -> Response:
    """What a request is told that was not answered for its own fault, or because something is gone that it needs."""
    if isinstance(error, NoKey):
        return http.error(401, str(error), headers={"WWW-Authenticate": "Bearer", **_CLOSE})
    if isinstance(error, (BadQuery, NotJson)):
        return http.error(400, str(error))
    if isinstance(error, BodyRefused):
        return http.error(error.status, str(error), headers=_CLOSE)
    if isinstance(error, Refused):
        return http.error(403, str(error))
    return http.error(503, str(error), 1)


def _wait(request: Request) -> float:
    return query.wait_seconds(request.headers.get(http.WAIT, request.query_params.get("wait")))
