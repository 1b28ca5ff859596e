"""The reference gateway: get-usage over HTTP, routed to the pipeline that answers it best; writes, tokens, query log."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from foreshard.errors import ForeshardError, Refused
from foreshard.gateway import http, query, tokens
from foreshard.gateway.decision import Decision, Verdict
from foreshard.gateway.dispatch import Answer, Dispatcher
from foreshard.gateway.mirror import Mirror
from foreshard.gateway.query import BadQuery, Query
from foreshard.gateway.query_log import QueryLog
from foreshard.gateway.router import Router
from foreshard.gateway.shadow_tally import ShadowTally
from foreshard.gateway.subscriber import Subscriber
from foreshard.gateway.writes import LARGEST_BODY, NotJson, Writes
from foreshard.local.postgres import resolve_url
from foreshard.settings import Settings

WAIT_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 30.0
# What the record of a query that no node answered has for its node: the log's fields are never blank.
NO_NODE = "none"
_PENDING = -1


class Gateway:
    """Everything of one gateway process; `start` and `stop` run its background threads."""

    def __init__(self, settings: Settings, gateway_id: str, clock: Callable[[], datetime]) -> None:
        self._settings, self._gateway_id, self._clock = settings, gateway_id, clock
        self._log = QueryLog(settings.landing_folder("query_record"), gateway_id, clock=clock)

        def url() -> str:
            return resolve_url(settings)

        secret = tokens.load_secret(settings.home)
        self._writes = Writes(settings.landing_folder("usage_record"), settings.pool_id, gateway_id, secret, url, clock)
        self._router = Router(operation_cost=settings.operation_cost)
        file = settings.home / "gateway" / gateway_id / "last_known_good"
        self._shadows = ShadowTally(settings.pool_id, gateway_id, self._router.is_shadowed)
        self._subscriber = Subscriber(self._router, url, settings.pool_id, gateway_id, file, each_turn=self._shadows.write)
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(10.0, connect=1.0),
            # Pipelines close a connection that was idle for 5 seconds: one that is given up before is never closed in use.
            limits=httpx.Limits(max_connections=400, max_keepalive_connections=200, keepalive_expiry=4.0),
            trust_env=False,  # a proxy of the environment is not between a gateway and its pipelines
        )
        self._mirror = Mirror(self._router, self._client, self._shadows)
        self._dispatcher = Dispatcher(self._router, self._client, self._subscriber.poke, clock, self._mirror)
        self._answers: Counter[int] = Counter()
        self._seconds = 0.0

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/usage", self._usage),
                Route("/v1/usage-records", self._write, methods=["POST"]),
                Route("/v1/routes", self._routes),
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
            ],
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(self._subscriber.start)
        yield
        await self._mirror.close()
        await asyncio.to_thread(self._subscriber.stop)
        await self._client.aclose()
        await asyncio.to_thread(self._log.close)

    async def _usage(self, request: Request) -> Response:
        begin, event_time = time.monotonic(), self._clock()
        try:
            asked, granularity = query.from_parameters(request.query_params, request.headers.get(http.CLASS, "standard"))
            deadline = begin + _wait(request)
            minimum_version = await self._minimum_version(request, deadline)
        except BadQuery as error:
            return self._counted(http.error(400, str(error)))
        except Refused as error:
            return self._counted(http.error(403, str(error)))
        except ForeshardError as error:
            return self._counted(http.error(503, f"the token cannot be checked now: {error}", 1))
        if minimum_version == _PENDING:
            table = self._router.table
            waits = Decision(Verdict.BEHIND, table.shard_of(asked.entity_id) if table else -1, self._router.epoch)
            answer = Answer(425, b"", waits, "the write that the token names is not applied yet", retry_after=1)
        else:
            answer = await self._dispatcher.ask(asked, _parameters(asked, granularity), minimum_version, deadline)
        seconds = time.monotonic() - begin
        self._seconds += seconds
        self._log.write(_record(asked, event_time, seconds, answer))
        return self._counted(_response(answer))

    async def _minimum_version(self, request: Request, deadline: float) -> int | None:
        """The version that the request's token asks for, _PENDING if its write is not applied by the deadline."""
        token = request.headers.get(http.TOKEN) or request.query_params.get("token")
        if not token:
            return None
        version = await self._writes.resolve(token, deadline)
        return _PENDING if version is None else version

    async def _write(self, request: Request) -> Response:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > LARGEST_BODY:
                return http.error(413, f"a body may have {LARGEST_BODY >> 20} MiB; send the records in several")
        try:
            landed = await asyncio.to_thread(self._writes.land, bytes(body))
        except NotJson as error:
            return http.error(400, str(error))
        except ForeshardError as error:
            return http.error(503, str(error), 1)
        return JSONResponse(
            {"token": landed.token, "file_name": landed.file_name, "rows": landed.rows}, 202, {http.TOKEN: landed.token}
        )

    async def _routes(self, request: Request) -> Response:
        """How a query of this entity would be routed now; `start` narrows it to replicas that reach back so far."""
        parameters, now = request.query_params, self._clock()
        entity_id = parameters.get("entity_id", "")
        table = self._router.table
        try:
            start = query.instant("start", parameters["start"]) if "start" in parameters else now
        except BadQuery as error:
            return http.error(400, str(error))
        if not entity_id:
            return http.error(400, "entity_id must be given")
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
                "foreshard_gateway_query_seconds_total": self._seconds,
                "foreshard_gateway_epoch": self._router.epoch,
                "foreshard_gateway_staleness_seconds": self._subscriber.staleness_seconds,
                "foreshard_gateway_query_records_total": self._log.written,
                "foreshard_gateway_query_records_dropped_total": self._log.dropped,
            }
        )

    def _counted(self, response: Response) -> Response:
        self._answers[response.status_code] += 1
        return response


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
    http.serve(gateway.app(), bound)


def _parameters(asked: Query, granularity: str) -> Mapping[str, str]:
    return {
        "entity_id": asked.entity_id,
        "service_id": asked.service_id,
        "operation_id": asked.operation_id,
        "start": _iso(asked.range_start),
        "end": _iso(asked.range_end),
        "granularity": granularity,
    }


def _record(asked: Query, event_time: datetime, seconds: float, answer: Answer) -> dict[str, object]:
    decision = answer.decision
    return {
        "entity_id": asked.entity_id,
        "service_id": asked.service_id,
        "operation_id": asked.operation_id,
        "range_start": _iso(asked.range_start),
        "range_end": _iso(asked.range_end),
        "query_class": asked.query_class,
        "event_time": _iso(event_time),
        "candidates": [{"node_id": c.node_id, "score": c.score} for c in decision.candidates],
        "node_id": decision.node_id or NO_NODE,
        "predicted_load": decision.predicted_load,
        "epoch": decision.epoch,
        "reason": answer.reason,
        "latency_ms": round(seconds * 1000, 3),
        "bytes": len(answer.body),
        "status": answer.status,
        "load_after": answer.load_after,
    }


def _response(answer: Answer) -> Response:
    decision = answer.decision
    headers = {http.EPOCH: str(decision.epoch), http.NODE: decision.node_id or NO_NODE, http.REASON: _header(answer.reason)}
    if answer.status == 425:
        return http.error(425, f"the write cannot be read yet: {answer.reason}", answer.retry_after, headers)
    if answer.status == 503:
        return http.error(503, f"no pipeline can answer now: {answer.reason}", answer.retry_after, headers)
    return Response(answer.body, answer.status, headers, "application/json")


def _wait(request: Request) -> float:
    text = request.headers.get(http.WAIT) or request.query_params.get("wait")
    if text is None:
        return WAIT_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_WAIT_SECONDS:
        raise BadQuery(f"wait must be 0 to {LONGEST_WAIT_SECONDS:g} seconds, not {text[:40]!r}")
    return seconds


def _header(text: str) -> str:
    """Header values are Latin-1 on one line."""
    return text.encode("ascii", "replace").decode().replace("\n", " ")[:1000]


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
