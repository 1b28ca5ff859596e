"""Sends one query to the pipelines the router chooses until one answers, within a bound on tries and time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import httpx

from foreshard.gateway import http
from foreshard.gateway.activity import Outcome
from foreshard.gateway.decision import Decision, Verdict
from foreshard.gateway.mirror import Mirror, RealAnswer
from foreshard.gateway.query import Query
from foreshard.gateway.retry_budget import RetryBudget
from foreshard.gateway.router import Router

TRIES = 4
_BEHIND_POLL_SECONDS = 0.1
_ADOPT_SECONDS = 0.5  # how long a query waits for the epoch that a pipeline spoke of


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a query: status and body for the caller, and the last decision, whose node answered if any did."""

    status: int
    body: bytes
    decision: Decision
    reason: str
    load_after: float = 0.0
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class _Reply:
    """One attempt's result; status 0 if the node could not be reached in time."""

    status: int
    body: bytes
    words: str  # why it is no answer, empty if it is one
    load: float = 0.0
    epoch: int | None = None  # of a not-mine refusal
    version: int | None = None  # that it is at
    seconds: float = 0.0


class Dispatcher:
    """For one event loop. `poke` asks for a look at what is published now; `mirror` gets what was answered."""

    def __init__(
        self,
        router: Router,
        client: httpx.AsyncClient,
        poke: Callable[[], None],
        clock: Callable[[], datetime],
        mirror: Mirror | None = None,
    ) -> None:
        self._router, self._client, self._poke, self._clock = router, client, poke, clock
        self._mirror = mirror
        self._budget = RetryBudget()

    async def ask(self, query: Query, parameters: Mapping[str, str], minimum_version: int | None, deadline: float) -> Answer:
        """Never raises for a node's failure. `deadline` (monotonic seconds) bounds the wait for a version."""
        self._budget.deposit()
        refused: frozenset[str] = frozenset()  # not to be asked again
        behind: dict[str, Decision] = {}  # asked in this round and not at the version yet
        history: list[str] = []
        while True:
            exclude = refused | behind.keys()
            decision = self._router.route(query, now=self._clock(), minimum_version=minimum_version, exclude=exclude)
            if decision.verdict is Verdict.NO_REPLICA:
                if not behind:
                    return Answer(503, b"", decision, _told(decision, history), retry_after=decision.retry_after)
                if time.monotonic() >= deadline:
                    last = list(behind.values())[-1]
                    return Answer(425, b"", last, _told(last, [*history, *(f"{n} is behind" for n in behind)]), retry_after=1)
                await asyncio.sleep(_BEHIND_POLL_SECONDS)
                behind.clear()
                continue
            reply = await self._attempt(decision, query, parameters, minimum_version)
            if not reply.words:
                if self._mirror is not None and reply.status == 200:
                    real = RealAnswer(decision.node_id, reply.body, reply.version, reply.seconds)
                    self._mirror.offer(query, parameters, real)
                return Answer(reply.status, reply.body, decision, _told(decision, history), reply.load)
            if reply.status == 425:
                behind[decision.node_id] = decision
                continue
            history.append(f"{decision.node_id} {reply.words}")
            refused = await self._after_refusal(reply, decision, refused)
            if len(history) >= TRIES or not self._budget.take():
                return Answer(503, b"", decision, _told(decision, history), retry_after=decision.retry_after)

    async def _after_refusal(self, reply: _Reply, decision: Decision, refused: frozenset[str]) -> frozenset[str]:
        """Whom not to ask again; nobody is left out once a newer epoch is adopted, which may have moved the shard."""
        if reply.epoch is None or reply.epoch <= self._router.epoch:
            return refused | {decision.node_id}
        self._poke()
        until = time.monotonic() + _ADOPT_SECONDS
        while self._router.epoch < reply.epoch and time.monotonic() < until:
            await asyncio.sleep(0.01)
        return frozenset() if self._router.epoch > decision.epoch else refused | {decision.node_id}

    async def _attempt(
        self, decision: Decision, query: Query, parameters: Mapping[str, str], minimum_version: int | None
    ) -> _Reply:
        headers = {http.SHARD: str(decision.shard_id), http.CLASS: query.query_class, http.EPOCH: str(decision.epoch)}
        if minimum_version is not None:
            headers[http.MINIMUM_VERSION] = str(minimum_version)
        self._router.started(decision)
        begin, outcome = time.monotonic(), Outcome(False)
        try:
            response = await self._client.get(f"{decision.url}/v1/usage", params=dict(parameters), headers=headers)
            reply, outcome = _understood(response, time.monotonic() - begin)
        except httpx.HTTPError as error:
            outcome = Outcome(True)
            reply = _Reply(0, b"", f"did not answer ({type(error).__name__})")
        finally:
            # Also when the caller gave up: a query that was started is finished exactly once.
            self._router.finished(decision, outcome)
        return reply


def _understood(response: httpx.Response, seconds: float) -> tuple[_Reply, Outcome]:
    load, applied = http.number(response.headers.get(http.LOAD)), http.applied_version(response.headers)
    status = response.status_code
    epoch = http.not_mine_epoch(response.text) if status == 503 else None
    words = ""
    if epoch is not None:
        words = f"refused: not its shard at epoch {epoch}"
    elif status == 425:
        words = "is behind"
    elif status >= 500:
        words = f"failed with status {status}"
    failed = status >= 500 and epoch is None
    outcome = Outcome(failed, None if words else seconds, load, applied, not_mine=epoch is not None)
    return _Reply(status, response.content, words, load or 0.0, epoch, applied, seconds), outcome


def _told(decision: Decision, history: list[str]) -> str:
    return decision.reason + ("; before: " + ", ".join(history) if history else "")
