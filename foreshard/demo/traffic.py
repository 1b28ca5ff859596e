"""Replays landed queries through a running gateway over HTTP, and says who answered them and how fast."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from foreshard.errors import ForeshardError
from foreshard.gateway.http import CLASS, EPOCH, NODE

NO_ANSWER = "no answer"


@dataclass(frozen=True)
class Latency:
    """Milliseconds as the caller saw them, over `answered` queries; None if there were none."""

    answered: int
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class TrafficResult:
    """`answered` counts status 200. `statuses` has the HTTP status as text, or NO_ANSWER for a broken connection."""

    sent: int
    answered: int
    statuses: dict[str, int]
    by_node: dict[str, int]  # answered, by the pipeline that the gateway chose
    by_epoch: dict[str, int]  # answered, by the epoch they were routed by
    latency: Latency
    latency_by_node: dict[str, Latency]
    seconds: float


@dataclass(frozen=True)
class _Answer:
    status: str
    node: str
    epoch: str
    milliseconds: float


def read_queries(path: Path) -> list[dict[str, Any]]:
    """The query records of one landed file, in its order; raises ForeshardError naming the file and line of a bad one."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ForeshardError(f"cannot read the landed queries {path}: {error}; land that hour again") from None
    queries = []
    for number, line in enumerate(lines, start=1):
        try:
            queries.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ForeshardError(f"{path} line {number} is not JSON: {error}; land that hour again") from None
    return queries


def sample_queries(paths: Iterable[Path], count: int, seed: int = 2013) -> list[dict[str, Any]]:
    """At most `count` of the files' queries, drawn without replacement, in the order of the files and lines."""
    queries = [query for path in paths for query in read_queries(path)]
    if len(queries) <= count:
        return queries
    kept = np.sort(np.random.default_rng(seed).choice(len(queries), size=count, replace=False))
    return [queries[int(i)] for i in kept]


def replay(
    gateway_url: str, queries: Sequence[Mapping[str, Any]], concurrency: int = 8, timeout_seconds: float = 10.0
) -> TrafficResult:
    """Asks every query once, `concurrency` at a time; an error of one query is counted and never stops the rest."""
    started = time.monotonic()
    return _result(asyncio.run(_ask_all(gateway_url, queries, concurrency, timeout_seconds)), time.monotonic() - started)


@contextmanager
def asking(
    gateway_url: str, queries: Sequence[Mapping[str, Any]], per_second: float, timeout_seconds: float = 10.0
) -> Iterator[Callable[[], TrafficResult]]:
    """Asks the queries over and over while the block runs, some a second; the callable gives what became of them so far."""
    answers: list[_Answer] = []
    started, stopped = time.monotonic(), threading.Event()

    async def ask_on() -> None:
        async with httpx.AsyncClient(base_url=gateway_url, timeout=timeout_seconds, trust_env=False) as client:
            for query in itertools.cycle(queries):
                if stopped.is_set():
                    return
                answers.append(await _ask(client, query))
                await asyncio.sleep(1 / per_second)

    thread = threading.Thread(target=lambda: asyncio.run(ask_on()), name="asking", daemon=True)
    thread.start()
    try:
        yield lambda: _result(list(answers), time.monotonic() - started)
    finally:
        stopped.set()
        thread.join(timeout_seconds)


def _result(answers: Sequence[_Answer], seconds: float) -> TrafficResult:
    good = [a for a in answers if a.status == "200"]
    nodes = sorted({a.node for a in good})
    return TrafficResult(
        sent=len(answers),
        answered=len(good),
        statuses=dict(sorted(Counter(a.status for a in answers).items())),
        by_node=dict(sorted(Counter(a.node for a in good).items())),
        by_epoch=dict(sorted(Counter(a.epoch for a in good).items())),
        latency=_latency(good),
        latency_by_node={node: _latency([a for a in good if a.node == node]) for node in nodes},
        seconds=seconds,
    )


async def _ask_all(url: str, queries: Sequence[Mapping[str, Any]], concurrency: int, timeout: float) -> list[_Answer]:
    answers: list[_Answer] = []
    waiting = iter(queries)
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    # The environment's proxies are for the internet; the gateway is on this machine.
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=timeout, trust_env=False) as client:
        await asyncio.gather(*(_ask_in_turn(client, waiting, answers) for _ in range(concurrency)))
    return answers


async def _ask_in_turn(client: httpx.AsyncClient, waiting: Iterator[Mapping[str, Any]], answers: list[_Answer]) -> None:
    for query in waiting:
        answers.append(await _ask(client, query))


async def _ask(client: httpx.AsyncClient, query: Mapping[str, Any]) -> _Answer:
    parameters = {name: query[name] for name in ("entity_id", "service_id", "operation_id")}
    parameters |= {"start": query["range_start"], "end": query["range_end"]}
    started = time.monotonic()
    try:
        response = await client.get("/v1/usage", params=parameters, headers={CLASS: query["query_class"]})
    except httpx.HTTPError:
        return _Answer(NO_ANSWER, "", "", (time.monotonic() - started) * 1000)
    elapsed = (time.monotonic() - started) * 1000
    return _Answer(str(response.status_code), response.headers.get(NODE, ""), response.headers.get(EPOCH, ""), elapsed)


def _latency(answers: Sequence[_Answer]) -> Latency:
    if not answers:
        return Latency(0, None, None)
    p50, p99 = np.quantile([a.milliseconds for a in answers], [0.5, 0.99])
    return Latency(len(answers), float(p50), float(p99))
