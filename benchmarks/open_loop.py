"""Asks a gateway at times drawn beforehand, whether or not it has answered what was asked before.

A query's latency counts from the time it was meant to be sent, so that a gateway that stalls is charged with all who wait
(no coordinated omission: Tene 2013). Every answer is compared with what is known to be right.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlencode

import numpy as np

ASKERS = 64
TIMEOUT_SECONDS = 30.0
# A server closes a connection that was idle for 5 seconds: one that is given up before is never closed in use.
_IDLE_SECONDS = 4.0


@dataclass(frozen=True)
class Question:
    """Parameters of get-usage, and the sums of quantity and events over all periods that are right."""

    parameters: dict[str, str]
    quantity: int
    events: int


@dataclass(frozen=True)
class Asked:
    """`at`: seconds since 1970 when it was to be sent; `seconds` from then to the answer; `fault`: empty for a right answer."""

    at: float
    seconds: float
    fault: str


class OpenLoop:
    """Many connections to one gateway."""

    def __init__(self, port: int, questions: Sequence[Question], rate: float) -> None:
        """`rate`: queries per second, as a Poisson process."""
        self._port, self._questions, self._rate = port, questions, rate
        self._idle: list[tuple[float, http.client.HTTPConnection]] = []

    def ask(self, is_over: Callable[[], bool], seed: int) -> list[Asked]:
        """Asks until `is_over`, which is called before each query; returns in the order of `at` once all are answered."""
        drawn = np.random.default_rng(seed)
        clock = time.time() - time.monotonic()
        futures = []
        with ThreadPoolExecutor(ASKERS) as askers:
            due = time.monotonic()
            while not is_over():
                due += float(drawn.exponential(1 / self._rate))
                time.sleep(max(0.0, due - time.monotonic()))
                question = self._questions[int(drawn.integers(len(self._questions)))]
                futures.append(askers.submit(self._ask, question, due, clock))
        return [future.result() for future in futures]

    def _ask(self, question: Question, due: float, clock: float) -> Asked:
        try:
            status, body = self._answer(f"/v1/usage?{urlencode(question.parameters)}")
            ended = time.monotonic()
            fault = _fault(question, status, body)
        except (OSError, http.client.HTTPException) as error:
            ended, fault = time.monotonic(), f"no answer: {error!r}"
        return Asked(due + clock, ended - due, fault)

    def _answer(self, path: str) -> tuple[int, bytes]:
        connection = self._connection()
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            found = response.status, response.read()
        except BaseException:
            connection.close()
            raise
        self._idle.append((time.monotonic(), connection))
        return found

    def _connection(self) -> http.client.HTTPConnection:
        while self._idle:
            try:
                since, connection = self._idle.pop()
            except IndexError:  # another asker took it
                break
            if time.monotonic() - since < _IDLE_SECONDS:
                return connection
            connection.close()
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_SECONDS)


def _fault(question: Question, status: int, body: bytes) -> str:
    if status != 200:
        return f"status {status}: {body[:300]!r}"
    rows = json.loads(body, parse_float=Decimal)
    found = (sum(row["quantity"] for row in rows), sum(row["events"] for row in rows))
    right = (question.quantity, question.events)
    return "" if found == right else f"wrong: {found} instead of {right} for {question.parameters}"
