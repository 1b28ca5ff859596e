"""What goes on while processes are killed: a source that is written, queries that are asked, and what is true at each version.

The truth is kept in memory, apart from every table, so that an answer is judged by what was written and by nothing that
was computed from it.
"""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake

from foreshard.gateway import http
from foreshard.hashing import entity_slot
from foreshard.lake import log

ENTITIES = tuple(f"e{n}" for n in range(16))
FIRST_HOUR = datetime(2013, 11, 26, tzinfo=UTC)
HOURS_A_DAY = 8
FIRST_DAYS = 3
Change = list[tuple[str, datetime, int]]  # entity, hour, quantity


class Source:
    """usage_hourly, written by this process alone, and what it says at each of its versions."""

    def __init__(self, path: str, slot_bits: int) -> None:
        self.path, self._slot_bits = path, slot_bits
        table = DeltaTable(path)
        self._schema = pa.schema(table.schema().to_arrow())
        self.newest = int(table.version())  # or the version that is being written
        self.hours: list[datetime] = []
        self._lock = threading.Lock()
        self._written: dict[tuple[str, datetime], list[tuple[int, int]]] = defaultdict(list)  # version and quantity

    def append(self, hours: int, quantity: Callable[[], int]) -> None:
        """The next hours, of every entity, as one version."""
        new = [self._next_hour(number) for number in range(hours)]
        self._commit([(e, hour, quantity()) for hour in new for e in ENTITIES], None)
        self.hours += new

    def restate(self, hour: datetime, quantity: Callable[[], int]) -> None:
        """Other quantities for an hour that is there."""
        moment = f"{hour:%Y-%m-%dT%H:%M:%S}Z"
        self._commit([(e, hour, quantity()) for e in ENTITIES], f"day = '{hour:%Y-%m-%d}' AND hour = '{moment}'")

    def total(self, entity: str, start: datetime, end: datetime, version: int) -> tuple[int, int]:
        """Quantity and events of the entity's hours in [start, end) at a version."""
        with self._lock:
            found = [
                [quantity for at, quantity in written if at <= version]
                for (name, hour), written in self._written.items()
                if name == entity and start <= hour < end
            ]
        return sum(quantities[-1] for quantities in found if quantities), sum(1 for quantities in found if quantities)

    def _next_hour(self, ahead: int) -> datetime:
        day, hour = divmod(len(self.hours) + ahead, HOURS_A_DAY)
        return FIRST_HOUR + timedelta(days=day, hours=hour)

    def _commit(self, rows: Change, predicate: str | None) -> None:
        version = int(DeltaTable(self.path).version()) + 1
        # Before it is written: a copy may have it, and an answer come, before the writer returns.
        with self._lock:
            self.newest = version
            for entity, hour, quantity in rows:
                self._written[entity, hour].append((version, quantity))
        table = pa.Table.from_pylist([self._row(*row) for row in rows], schema=self._schema)
        saying = CommitProperties(custom_metadata={"userMetadata": log.packed({"drill": version})})
        mode = "append" if predicate is None else "overwrite"
        write_deltalake(self.path, table, mode=mode, predicate=predicate, commit_properties=saying)
        assert DeltaTable(self.path).version() == version, f"somebody else wrote {self.path}"

    def _row(self, entity: str, hour: datetime, quantity: int) -> dict[str, Any]:
        key = {"entity_id": entity, "service_id": "s", "operation_id": "o", "slot": entity_slot(entity, self._slot_bits)}
        return {**key, "hour": hour, "quantity": Decimal(quantity), "events": 1, "day": hour.date()}


class Ingest:
    """Writes the source every second or two, as long as `may_write` says so."""

    def __init__(self, source: Source, may_write: Callable[[], bool], seed: int) -> None:
        self._source, self._may_write, self._random = source, may_write, random.Random(seed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.error = ""
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._random.uniform(0.8, 2.5)):
            if not self._may_write():
                continue
            try:
                if self._random.random() < 0.25:
                    self._source.restate(self._random.choice(self._source.hours), self._quantity)
                else:
                    self._source.append(1, self._quantity)
            except Exception as error:  # for the drill to tell of: a thread's own would be lost
                self.error = f"ingest: {error!r}"
                return

    def _quantity(self) -> int:
        return self._random.randint(1, 10**6)


class Questions:
    """Asks the gateway all the time, and keeps what was not answered rightly.

    Right is 200 with the sums at one of the source's versions from `floor`, which every copy has, to the newest.
    """

    def __init__(self, url: str, source: Source, seed: int) -> None:
        self._url, self._source, self._random = url, source, random.Random(seed)
        self.floor = source.newest
        self.answered = 0
        self.faults: list[str] = []
        self.epochs: set[int] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=30, trust_env=False) as client:
            while not self._ended.wait(0.12):
                try:
                    self._ask(client)
                except Exception as error:  # for the drill to tell of: a thread's own would be lost
                    self.faults.append(f"the gateway did not answer: {error!r}")

    def _ask(self, client: httpx.Client) -> None:
        entity, start, end = self._random.choice(ENTITIES), *self._range()
        asked = {"entity_id": entity, "service_id": "s", "operation_id": "o", "granularity": "total"}
        times = {"start": start.isoformat(), "end": end.isoformat()}
        floor = self.floor
        answer = client.get(f"{self._url}/v1/usage", params={**asked, **times})
        self.answered += 1
        said = f"{entity} from {start} to {end}: {answer.status_code} {answer.text[:300]}, {dict(answer.headers)}"
        if answer.status_code != 200:
            self.faults.append(said)
            return
        self.epochs.add(int(answer.headers[http.EPOCH]))
        rows = answer.json()
        found = (rows[0]["quantity"], rows[0]["events"]) if rows else (0, 0)
        right = {v: self._source.total(entity, start, end, v) for v in range(floor, self._source.newest + 1)}
        if found not in right.values():
            self.faults.append(f"{said}; right would be one of {right}")

    def _range(self) -> tuple[datetime, datetime]:
        """All days, the newest ones, or only old ones."""
        newest = self._source.hours[-1].replace(hour=0)
        after = newest + timedelta(days=30)
        return self._random.choice(
            [
                (FIRST_HOUR, after),
                (newest, after),
                (newest - timedelta(days=1), after),
                (FIRST_HOUR, FIRST_HOUR + timedelta(days=2)),
            ]
        )
