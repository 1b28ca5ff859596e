"""Clients that write and read through gateways, the history of what they were told, and the checker that judges it.

As Jepsen does it: clients note what each operation was told, and only afterwards is the whole judged. Every write has an hour
of its own, so that an answer tells which writes it holds.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import httpx

from foreshard.gateway import http

WAIT_SECONDS = 8.0
# What a write may be told while the store has no leader: nothing was landed.
_NOT_WRITTEN = 503


@dataclass(frozen=True)
class Write:
    """`token` is empty if it was not confirmed: then it may have been landed or not."""

    entity: str
    hour: datetime
    token: str


@dataclass(frozen=True)
class Read:
    """`expected`: the hour whose token the query carried, None without one. `hours`: what was answered, hour → events."""

    entity: str
    expected: datetime | None
    status: int
    epoch: int
    hours: dict[datetime, int]
    said: str


@dataclass
class History:
    """Of all clients; the lists only grow."""

    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Repeated:
    """Does `turn` again and again in a thread, `pause()` seconds apart, until it is stopped."""

    def __init__(self, turn: Callable[[], None], pause: Callable[[], float]) -> None:
        self._turn, self._pause = turn, pause
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._pause()):
            self._turn()


class Client:
    """Writes and reads its own entity, through whichever gateway is there, until it is stopped."""

    def __init__(self, entity: str, first_hour: datetime, gateways: Callable[[], Sequence[str]], seed: str) -> None:
        self._entity, self._first_hour, self._gateways = entity, first_hour, gateways
        self._random = random.Random(seed)
        self.history = History()
        self._client = httpx.Client(timeout=WAIT_SECONDS + 30, trust_env=False)
        self._turns = Repeated(self._turn, lambda: self._random.uniform(0.05, 0.4))

    def stop(self) -> None:
        self._turns.stop()
        self._client.close()

    def _turn(self) -> None:
        try:
            if self._random.random() < 0.3:
                self._write()
            else:
                self._read()
        except Exception as error:  # for the checker to tell of: a thread's own would be lost
            self.history.faults.append(f"{self._entity}: {error!r}")

    def _write(self) -> None:
        hour = self._first_hour + timedelta(hours=len(self.history.writes))
        record = {
            "record_id": f"{self._entity} {hour.isoformat()}",
            "entity_id": self._entity,
            "service_id": "s",
            "operation_id": "o",
            "event_time": hour.isoformat(),
            "quantity": 1,
        }
        gateway = self._random.choice(self._gateways())
        try:
            answer = self._client.post(f"{gateway}/v1/usage-records", content=json.dumps([record]))
        except httpx.TransportError:
            self.history.writes.append(Write(self._entity, hour, ""))  # the gateway was killed
            return
        if answer.status_code not in (202, _NOT_WRITTEN):
            self.history.faults.append(f"write of {self._entity} at {hour}: {answer.status_code} {answer.text[:200]}")
        self.history.writes.append(Write(self._entity, hour, answer.headers.get(http.TOKEN, "")))

    def _read(self) -> None:
        confirmed = [write for write in self.history.writes if write.token]
        # The newest, which are not taken in yet, and older ones, which may be: how long a round takes is the machine's.
        recent = confirmed[-12:] if self._random.random() < 0.5 else confirmed
        write = self._random.choice(recent) if confirmed and self._random.random() < 0.7 else None
        parameters = {
            "entity_id": self._entity,
            "service_id": "s",
            "operation_id": "o",
            "start": (self._first_hour - timedelta(days=1)).isoformat(),
            "end": (self._first_hour + timedelta(days=30)).isoformat(),
            "granularity": "hour",
        }
        headers = {http.TOKEN: write.token, http.WAIT: f"{self._random.uniform(0, WAIT_SECONDS):.2f}"} if write else {}
        answer = self._asked(parameters, headers)
        rows = answer.json() if answer.status_code == 200 else []
        self.history.reads.append(
            Read(
                self._entity,
                write.hour if write else None,
                answer.status_code,
                int(answer.headers.get(http.EPOCH, 0)),
                {datetime.fromisoformat(row["start"]): int(row["events"]) for row in rows},
                f"{answer.text[:200]} from {answer.headers.get(http.NODE)}",
            )
        )

    def _asked(self, parameters: dict[str, str], headers: dict[str, str]) -> httpx.Response:
        """By a gateway that answers: one that is killed is not the query's fault, and another one is there."""
        gateways = list(self._gateways())
        self._random.shuffle(gateways)
        for gateway in gateways[:-1]:
            try:
                return self._client.get(f"{gateway}/v1/usage", params=parameters, headers=headers)
            except httpx.TransportError:
                continue
        return self._client.get(f"{gateways[-1]}/v1/usage", params=parameters, headers=headers)


def violations(history: History) -> list[str]:
    """What breaks the contract: an answer without the write whose token the query carried, one with what nobody wrote or
    twice as much, a query that nobody answered, a status that has no business there."""
    wrong = list(history.faults)
    written = {(write.entity, write.hour) for write in history.writes}
    for read in history.reads:
        said = f"read of {read.entity}: {read.status} {read.said}"
        if read.status == 200:
            if read.expected is not None and read.expected not in read.hours:
                wrong.append(f"{said}: without the write of {read.expected}, whose token it carried")
            wrong += [f"{said}: {hour} was never written" for hour in read.hours if (read.entity, hour) not in written]
            wrong += [f"{said}: {hour} counted {n} times" for hour, n in read.hours.items() if n != 1]
        elif read.expected is None:
            wrong.append(f"{said}: not answered, though replicas were alive")
        elif read.status not in (425, 503):
            wrong.append(f"{said}: neither an answer nor a refusal to come again")
    return wrong
