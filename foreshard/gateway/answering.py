"""What happens to one query at the gateway: let in or not, dispatched, and recorded in the query log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from foreshard.gateway.admission import Admission
from foreshard.gateway.decision import Decision, Verdict
from foreshard.gateway.dispatch import Answer, Dispatcher
from foreshard.gateway.pool_load import PoolLoad
from foreshard.gateway.query import Query
from foreshard.gateway.query_log import QueryLog
from foreshard.gateway.router import Router

# What the record of a query that no node answered has for its node: the log's fields are never blank.
NO_NODE = "none"
# In place of a version: the write that the token names is not applied yet.
PENDING = -1
_RATE_SECONDS = 0.1  # for how long what may be let in is not worked out anew


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a query came: monotonic seconds, and the time that its record says."""

    begin: float
    event_time: datetime


class Answering:
    """For one event loop. `admission` None lets everybody in. One record in `candidates_one_in` says who was compared."""

    def __init__(
        self,
        router: Router,
        dispatcher: Dispatcher,
        log: QueryLog,
        pool_load: PoolLoad,
        admission: Admission | None,
        operation_cost: Mapping[str, float],
        clock: Callable[[], datetime],
        candidates_one_in: int = 1,
    ) -> None:
        self._router, self._dispatcher, self._log = router, dispatcher, log
        self._pool_load, self._admission = pool_load, admission
        self._operation_cost, self._clock = operation_cost, clock
        self._candidates_one_in, self._records = candidates_one_in, 0
        self._rate_at = -1.0
        self.seconds = 0.0  # that queries took, all together

    def arrival(self) -> Arrival:
        """Of a query that comes now."""
        return Arrival(time.monotonic(), self._clock())

    async def answer(self, asked: Query, granularity: str, version: int | None, deadline: float, came: Arrival) -> Answer:
        """`version` is what the query's token asks for, or PENDING; `deadline` (monotonic seconds) bounds the wait for it."""
        found = self._turned_away(asked)
        if found is None and version == PENDING:
            reason = "the write that the token names is not applied yet"
            found = Answer(425, b"", self._nowhere(asked, Verdict.BEHIND), reason, retry_after=1)
        if found is None:
            found = await self._dispatcher.ask(asked, _parameters(asked, granularity), version, deadline)
        seconds = time.monotonic() - came.begin
        self.seconds += seconds
        is_sampled = self._records % self._candidates_one_in == 0
        self._records += 1
        self._log.write(_record(asked, came.event_time, seconds, found, is_sampled))
        return found

    def _turned_away(self, asked: Query) -> Answer | None:
        if self._admission is None:
            return None
        now, table = time.monotonic(), self._router.table
        if now - self._rate_at >= _RATE_SECONDS:
            self._admission.set_rate(self._pool_load.rate(table), now)
            self._rate_at = now
        cost = self._operation_cost.get(asked.operation_id, 1.0)
        away = self._admission.ask(asked.query_class, cost, now, self._pool_load.overload(table, asked.entity_id))
        if away is None:
            self._pool_load.sent(cost)
            return None
        return Answer(429, b"", self._nowhere(asked, Verdict.NO_REPLICA), away.reason, retry_after=away.retry_after)

    def _nowhere(self, asked: Query, verdict: Verdict) -> Decision:
        table = self._router.table
        return Decision(verdict, table.shard_of(asked.entity_id) if table else -1, self._router.epoch)


def sentence(answer: Answer) -> str:
    """What a caller is told whose query was not answered."""
    told = {
        400: "the pipeline does not take this query",
        425: "the write cannot be read yet",
        429: "there is no room for this query now",
        503: "no pipeline can answer now",
    }
    return f"{told[answer.status]}: {answer.reason}"


def _parameters(asked: Query, granularity: str) -> Mapping[str, str]:
    return {
        "entity_id": asked.entity_id,
        "service_id": asked.service_id,
        "operation_id": asked.operation_id,
        "start": _iso(asked.range_start),
        "end": _iso(asked.range_end),
        "granularity": granularity,
    }


def _record(asked: Query, event_time: datetime, seconds: float, answer: Answer, is_sampled: bool) -> dict[str, object]:
    decision = answer.decision
    return {
        "entity_id": asked.entity_id,
        "service_id": asked.service_id,
        "operation_id": asked.operation_id,
        "range_start": _iso(asked.range_start),
        "range_end": _iso(asked.range_end),
        "query_class": asked.query_class,
        "event_time": _iso(event_time),
        "candidates": [{"node_id": c.node_id, "score": c.score} for c in decision.candidates] if is_sampled else [],
        "node_id": decision.node_id or NO_NODE,
        "predicted_load": decision.predicted_load,
        "epoch": decision.epoch,
        "reason": answer.reason,
        "latency_ms": round(seconds * 1000, 3),
        "bytes": len(answer.body),
        "status": answer.status,
        "load_after": answer.load_after,
    }


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
