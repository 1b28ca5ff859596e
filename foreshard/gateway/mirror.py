"""Sends some queries to a new replica too, after they were answered, and compares the two answers.

The caller has the real answer by then. What the new replica does changes nothing about whom the router chooses.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import httpx

from foreshard.gateway import http
from foreshard.gateway.query import Query
from foreshard.gateway.router import Router, ShadowCopy
from foreshard.gateway.shadow_tally import ShadowTally

# Queries on their way to new replicas at any one time; further ones are not sent there.
MOST_IN_FLIGHT = 16
TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RealAnswer:
    """An answer of status 200 that a caller got: from which node, at which source version (None: it did not say)."""

    node_id: str
    body: bytes
    version: int | None
    seconds: float


class Mirror:
    """For one event loop. `offer` never waits and never raises."""

    def __init__(
        self,
        router: Router,
        client: httpx.AsyncClient,
        tally: ShadowTally,
        most_in_flight: int = MOST_IN_FLIGHT,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._router, self._client, self._tally = router, client, tally
        self._most, self._timeout = most_in_flight, timeout_seconds
        self._tasks: set[asyncio.Task[None]] = set()

    def offer(self, query: Query, parameters: Mapping[str, str], real: RealAnswer) -> None:
        """Asks each new replica of the query's shard whose share it falls into, once, in the background."""
        for copy in self._router.shadows(query, real.node_id):
            if len(self._tasks) >= self._most:
                return
            task = asyncio.create_task(self._ask(copy, query, parameters, real))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Gives up what is in flight; it is not counted."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, copy: ShadowCopy, query: Query, parameters: Mapping[str, str], real: RealAnswer) -> None:
        # Without the version that a token asks for: a copy that follows a little later is not comparable then, but not faulty.
        headers = {http.SHARD: str(copy.shard_id), http.CLASS: query.query_class, http.EPOCH: str(copy.epoch)}
        begin = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._client.get(f"{copy.url}/v1/usage", params=dict(parameters), headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            self._tally.failed(copy.key, f"{copy.node_id} did not answer ({type(error).__name__}): {_told(parameters)}")
            return
        seconds = time.monotonic() - begin
        if response.status_code != 200:
            said = f"{response.status_code} {response.text[:100]}"
            self._tally.failed(copy.key, f"{copy.node_id} said {said}: {_told(parameters)}")
            return
        version = http.applied_version(response.headers)
        same = _same(real.body, response.content) if version is not None and version == real.version else None
        differ = f"at version {version} {real.node_id} and {copy.node_id} have other rows: {_told(parameters)}"
        self._tally.answered(copy.key, real.seconds * 1000, seconds * 1000, same, differ)


def _same(one: bytes, other: bytes) -> bool:
    """Whether two answers have the same rows, however they are written."""
    if one == other:
        return True
    try:
        return bool(_rows(one) == _rows(other))
    except ValueError:
        return False


def _rows(body: bytes) -> object:
    # Quantities are decimal literals of up to 28 digits, and 1.0 is 1.
    return json.loads(body, parse_float=Decimal, parse_int=Decimal)


def _told(parameters: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in parameters.items())
