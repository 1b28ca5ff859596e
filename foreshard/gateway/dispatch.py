"""Sends one query to the pipelines the router chooses until one answers, within a bound on tries and time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from foreshard.gateway import http
from foreshard.gateway.activity import Outcome
from foreshard.gateway.decision import Decision, Verdict
from foreshard.gateway.mirror import Mirror, RealAnswer
from foreshard.gateway.pipeline_client import PipelineClient, Reply, Unreachable
from foreshard.gateway.query import Query
from foreshard.gateway.retry_budget import RetryBudget
from foreshard.gateway.router import Router

TRIES = 4
# Statuses that a pipeline gives when all is well with it: 400 is for a query that it does not take.
_SOUND = (200, 400, 425)
_BEHIND_POLL_SECONDS = 0.1
_ADOPT_SECONDS = 0.5  # how long a query waits for the epoch that a pipeline spoke of
# How long a pipeline is not believed that spoke of an epoch which did not come: else it could hold up every query.
_DISBELIEF_SECONDS = 5.0


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
class _Attempt:
    """One attempt's result; status 0 if the node could not be reached in time."""

    status: int
    body: bytes
    words: str  # why it is no answer, empty if it is one
    load: float = 0.0
    epoch: int | None = None  # of a not-mine refusal
    version: int | None = None  # that it is at
    seconds: float = 0.0


class Dispatcher:
    """For one event loop. `poke` asks for a look at what is published now; `mirror` gets what was answered.

    `reported` is told the load that came with a node's answer. A pipeline is the authority over what it holds, but what
    contradicts itself is not believed: another node's name, a version below the one asked for, an epoch that never comes.
    """

    def __init__(
        self,
        router: Router,
        client: PipelineClient,
        poke: Callable[[], None],
        clock: Callable[[], datetime],
        mirror: Mirror | None = None,
        reported: Callable[[str, float], None] = lambda node_id, load: None,
    ) -> None:
        self._router, self._client, self._poke, self._clock = router, client, poke, clock
        self._mirror, self._reported = mirror, reported
        self._disbelieved: dict[str, float] = {}  # node, until when
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

    async def _after_refusal(self, reply: _Attempt, decision: Decision, refused: frozenset[str]) -> frozenset[str]:
        """Whom not to ask again; nobody is left out once a newer epoch is adopted, which may have moved the shard."""
        if reply.epoch is None or reply.epoch <= self._router.epoch:
            return refused | {decision.node_id}
        node_id, now = decision.node_id, time.monotonic()
        if self._disbelieved.get(node_id, now) > now:
            return refused | {node_id}
        self._poke()
        while self._router.epoch < reply.epoch and time.monotonic() < now + _ADOPT_SECONDS:
            await asyncio.sleep(0.01)
        if self._router.epoch < reply.epoch:
            self._disbelieved[node_id] = time.monotonic() + _DISBELIEF_SECONDS
        return frozenset() if self._router.epoch > decision.epoch else refused | {decision.node_id}

    async def _attempt(
        self, decision: Decision, query: Query, parameters: Mapping[str, str], minimum_version: int | None
    ) -> _Attempt:
        headers = {http.SHARD: str(decision.shard_id), http.CLASS: query.query_class, http.EPOCH: str(decision.epoch)}
        if minimum_version is not None:
            headers[http.MINIMUM_VERSION] = str(minimum_version)
        self._router.started(decision)
        begin, outcome = time.monotonic(), Outcome(False)
        try:
            reply = await self._client.get(f"{decision.url}/v1/usage", urlencode(parameters), headers)
            attempt, outcome = _understood(reply, decision.node_id, minimum_version, time.monotonic() - begin)
            if outcome.load is not None:
                self._reported(decision.node_id, outcome.load)
        except Unreachable as error:
            outcome = Outcome(True)
            attempt = _Attempt(0, b"", f"did not answer ({error})")
        finally:
            # Also when the caller gave up: a query that was started is finished exactly once.
            self._router.finished(decision, outcome)
        return attempt


def _understood(reply: Reply, node_id: str, minimum_version: int | None, seconds: float) -> tuple[_Attempt, Outcome]:
    load, applied = http.number(reply.headers.get(http.LOAD)), http.applied_version(reply.headers)
    epoch = http.not_mine_epoch(reply.body[:100].decode("latin-1")) if reply.status == 503 else None
    said = reply.headers.get(http.NODE)
    if said is not None and said != node_id:
        # Another process has got this one's old address; what it says is said of other shards.
        return _Attempt(0, b"", f"has gone: {said[:64]} answers at its address"), Outcome(True)
    if reply.status == 200 and minimum_version is not None and applied is not None and applied < minimum_version:
        # It says itself that the answer is older than asked for: as a refusal, and never passed on.
        return _Attempt(425, b"", "is behind", load or 0.0, None, applied, seconds), Outcome(False, None, load, applied)
    words = _words(reply.status, epoch)
    failed = reply.status not in _SOUND and epoch is None
    outcome = Outcome(failed, None if words else seconds, load, applied, not_mine=epoch is not None)
    return _Attempt(reply.status, reply.body, words, load or 0.0, epoch, applied, seconds), outcome


def _words(status: int, epoch: int | None) -> str:
    if epoch is not None:
        return f"refused: not its shard at epoch {epoch}"
    if status == 425:
        return "is behind"
    return "" if status in _SOUND else f"failed with status {status}"


def _told(decision: Decision, history: list[str]) -> str:
    return decision.reason + ("; before: " + ", ".join(history) if history else "")
