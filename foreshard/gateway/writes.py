"""Writes through the gateway: `POST /v1/usage-records` lands one file and returns the token that reads it.

A body is a JSON array of usage records or JSON lines. Rows are landed as they came: aggregation quarantines the bad ones
with their reason, and drops none. Only a body in which nothing is JSON is refused.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from foreshard.errors import ForeshardError
from foreshard.gateway import tokens
from foreshard.gateway.landing import hour_name, local_folder, put_in_place
from foreshard.transition.store import applied_version_of, record_landed_file

LARGEST_BODY = 64 << 20
_RESOLVE_POLL_SECONDS = 0.2
_REMEMBERED = 100_000


class NotJson(ForeshardError):
    """The body holds no JSON at all (status 400)."""


@dataclass(frozen=True, slots=True)
class Landed:
    token: str
    file_name: str  # below the table's landing folder
    rows: int


class Writes:
    """Lands bodies and resolves tokens. Methods block on disk and Postgres: call them outside the event loop."""

    def __init__(
        self,
        landing_folder: str,
        pool_id: str,
        gateway_id: str,
        secret: bytes,
        url: Callable[[], str],
        clock: Callable[[], datetime],
    ) -> None:
        self._folder = local_folder(landing_folder)
        self._pool_id, self._gateway_id, self._secret = pool_id, gateway_id, secret
        self._url, self._clock = url, clock
        self._applied: dict[str, int] = {}

    def land(self, body: bytes) -> Landed:
        """One landed file of the body's rows. Raises NotJson, or ForeshardError if nothing could be landed."""
        lines = split(body)
        name = f"{self._gateway_id}.{uuid.uuid4().hex}.jsonl"
        temporary = self._folder / f"_{name}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                file.write(b"\n".join(lines) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            file_name = self._place(temporary, name)
        except OSError as error:
            raise ForeshardError(
                f"the records could not be landed in {self._folder}: {error.strerror}; send them again"
            ) from None
        finally:
            temporary.unlink(missing_ok=True)
        return Landed(tokens.issue(self._secret, self._pool_id, file_name), file_name, len(lines))

    def minimum_version(self, token: str) -> int | None:
        """The version of usage_hourly from which on the token's write is in, None while it is pending.

        Raises Refused for a forged token, ForeshardError if Postgres cannot be asked.
        """
        file_name = tokens.read(self._secret, token, self._pool_id)
        known = self._applied.get(file_name)
        if known is None:
            known = applied_version_of(self._url(), self._pool_id, file_name)
            if known is not None:
                if len(self._applied) >= _REMEMBERED:
                    self._applied.clear()
                self._applied[file_name] = known
        return known

    async def resolve(self, token: str, deadline: float) -> int | None:
        """As `minimum_version`, waiting for a pending write until `deadline` (monotonic seconds)."""
        while True:
            version = await asyncio.to_thread(self.minimum_version, token)
            left = deadline - time.monotonic()
            if version is not None or left <= 0:
                return version
            await asyncio.sleep(min(left, _RESOLVE_POLL_SECONDS))

    def _place(self, temporary: Path, name: str) -> str:
        """Records the file, then renames it: a file that was applied without being recorded would stay pending for ever."""
        while True:
            moment = self._clock()
            file_name = f"{hour_name(moment)}/{name}"
            record_landed_file(self._url(), self._pool_id, file_name, moment)
            if hour_name(self._clock()) == hour_name(moment):
                put_in_place(temporary, self._folder, name, moment)
                return file_name


def split(body: bytes) -> list[bytes]:
    """The rows of a body, one line each, byte for byte apart from white space between tokens; raises NotJson."""
    stripped = body.strip()
    rows = _array(stripped) if stripped.startswith(b"[") else [line for line in stripped.split(b"\n") if line.strip()]
    if not rows or not any(_is_json(row) for row in rows):
        raise NotJson("the body must be a JSON array of usage records, or one JSON object a line")
    return rows


def _array(body: bytes) -> list[bytes]:
    """Elements of a JSON array as they were written: numbers keep all their digits."""
    try:
        text = body.decode("utf-8")
        json.loads(text)
    except (ValueError, RecursionError):
        raise NotJson("the body begins as a JSON array but is not valid JSON in UTF-8") from None
    rows: list[bytes] = []
    decoder, at = json.JSONDecoder(), 1
    while True:
        at = _skip(text, at)
        if text[at] == "]":
            return rows
        _, end = decoder.raw_decode(text, at)
        # A line end inside an element can only be between its tokens: JSON strings escape theirs.
        rows.append(text[at:end].replace("\n", " ").replace("\r", " ").encode())
        at = end


def _skip(text: str, at: int) -> int:
    while text[at] in " \t\r\n,":
        at += 1
    return at


def _is_json(row: bytes) -> bool:
    try:
        json.loads(row)
    except (ValueError, RecursionError):
        return False
    return True
