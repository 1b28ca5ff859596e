"""The query log: one record per finished query, landed as JSON lines without slowing the request.

Records go through a queue to one writer thread, which looks into it ten times a second: waking it for each record would cost
the request more than all the rest of its record. The open file's name begins with `_`, which readers of the landing skip;
it is renamed into the folder of the hour in which that happens: when the hour turns, at a size, at an age, and on close.
A gateway that died leaves its `_` file; the next one of that name lands it, without its last line if that was cut off.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from foreshard.errors import ForeshardError
from foreshard.gateway.landing import hour_name, local_folder, put_in_place

GATEWAY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CLOSE = object()
_LOOK_SECONDS = 0.1


class QueryLog:
    """`write` never blocks; `dropped` counts records that found the queue full (a disk that cannot be written to)."""

    def __init__(
        self,
        landing_folder: str,
        gateway_id: str,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        max_bytes: int = 8 << 20,
        max_age_seconds: float = 60.0,
        queue_records: int = 100_000,
    ) -> None:
        """Lands what a dead gateway of this name left. Raises ForeshardError if the folder cannot be written."""
        if not GATEWAY_ID.fullmatch(gateway_id):
            raise ForeshardError(f"gateway id {gateway_id!r} must be 1 to 64 letters, digits, dashes or underscores")
        self._folder = local_folder(landing_folder)
        self._gateway_id = gateway_id
        self._clock = clock
        self._max_bytes, self._max_age = max_bytes, max_age_seconds
        self._queue: deque[object] = deque()
        self._queue_records = queue_records
        self._closing = threading.Event()
        self._file: IO[bytes] | None = None
        self._path = self._folder
        self._opened_hour, self._opened_at = "", 0.0
        self.written = self.dropped = 0
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self.recovered = self._recover()
        except OSError as error:
            raise ForeshardError(f"query log folder {self._folder} cannot be written: {error.strerror}") from None
        self._thread = threading.Thread(target=self._run, name="query-log", daemon=True)
        self._thread.start()

    def write(self, record: dict[str, object]) -> None:
        """Queues one record; its `record_id` is added by the writer, once."""
        if len(self._queue) < self._queue_records:
            self._queue.append(record)
        else:
            self.dropped += 1

    def close(self) -> None:
        """Writes what is queued and lands the open file."""
        self._queue.append(_CLOSE)
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        pending: list[object] = []
        while _CLOSE not in pending:
            # With a disk that cannot be written to the queue fills up, and what comes then is dropped and counted.
            if len(pending) < self._queue_records or self._closing.is_set():
                pending.extend(self._take())
            try:
                self._append(pending)
                pending = [item for item in pending if item is _CLOSE]
                if pending or self._is_due():
                    self._land()
            except OSError as error:
                print(f"query log {self._folder}: {error.strerror}; it is tried again", file=sys.stderr, flush=True)
                if _CLOSE in pending:
                    self.dropped += len(pending) - 1
                    return
                time.sleep(1.0)

    def _take(self) -> list[object]:
        """What is queued, at most 1,000 items; none after a look in vain, so that files also land when no query comes."""
        if not self._queue:
            self._closing.wait(_LOOK_SECONDS)
        items: list[object] = []
        with contextlib.suppress(IndexError):
            while len(items) < 1000:
                item = self._queue.popleft()
                items.append({"record_id": uuid.uuid4().hex, **item} if isinstance(item, dict) else item)
        return items

    def _append(self, items: list[object]) -> None:
        lines = [json.dumps(item, separators=(",", ":")) + "\n" for item in items if item is not _CLOSE]
        if not lines:
            return
        if self._file is not None and self._opened_hour != hour_name(self._clock()):
            self._land()
        file = self._file or self._open()
        begin = file.tell()
        try:
            file.write("".join(lines).encode())
            file.flush()
        except OSError:
            # Cut off what was half written: the whole batch is tried again.
            file.truncate(begin)
            file.seek(begin)
            raise
        self.written += len(lines)

    def _open(self) -> IO[bytes]:
        self._opened_hour, self._opened_at = hour_name(self._clock()), time.monotonic()
        self._path = self._folder / self._opened_hour / f"_{self._gateway_id}.{uuid.uuid4().hex}.jsonl"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("xb", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX)  # held as long as this process lives: nobody recovers a file in use
        return self._file

    def _is_due(self) -> bool:
        if self._file is None:
            return False
        aged = time.monotonic() - self._opened_at >= self._max_age
        return aged or self._file.tell() >= self._max_bytes or self._opened_hour != hour_name(self._clock())

    def _land(self) -> None:
        if self._file is None:
            return
        os.fsync(self._file.fileno())
        put_in_place(self._path, self._folder, self._path.name.removeprefix("_"), self._clock())
        self._file.close()
        self._file = None

    def _recover(self) -> int:
        """Lands the files that a dead gateway of this name left; returns how many."""
        landed = 0
        for path in sorted(self._folder.glob(f"*/_{self._gateway_id}.*.jsonl")):
            landed += self._recover_file(path)
        return landed

    def _recover_file(self, path: Path) -> bool:
        with path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False  # another gateway of this name is alive and writes it
            whole = file.read().rfind(b"\n") + 1
            if whole == 0:
                path.unlink()
                return False
            file.truncate(whole)
            put_in_place(path, self._folder, path.name.removeprefix("_"), self._clock())
        return True
