"""Whose request it is: API keys, each of one class, kept as SHA-256 digests.

A key is long and random, so its digest needs no salt; and as the digest is looked up, never the key, how long that takes
tells a caller nothing of other keys.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from foreshard.errors import ForeshardError, Refused
from foreshard.gateway_settings import DIGEST, ClassSettings

STANDARD = "standard"
LONGEST_KEY = 512
_LOOK_SECONDS = 1.0  # between two looks at whether the file has changed


class NoKey(ForeshardError):
    """No key, or one that is not known here (status 401)."""


class Keys:
    """For one event loop. `is_open`: no keys are configured, and the class that a caller names is believed."""

    def __init__(
        self,
        classes: Sequence[ClassSettings],
        keys_file: str = "",
        report: Callable[[str], None] = lambda sentence: print(sentence, file=sys.stderr, flush=True),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ForeshardError if the file cannot be read or has a line that is no key."""
        self._ranks = {one.name: rank for rank, one in enumerate(classes)}
        self._lowest = classes[-1].name if classes else STANDARD
        self._configured = {digest: one.name for one in classes for digest in one.keys}
        self._file = Path(keys_file) if keys_file else None
        self._report, self._monotonic = report, monotonic
        self._seen: tuple[int, int] | None = None
        self._looked_at = monotonic()
        self._problem = ""
        self._classes_of = self._read()

    @property
    def is_open(self) -> bool:
        # A file that was emptied lets nobody in, rather than everybody.
        return self._file is None and not self._configured

    def class_of(self, key: str | None, asked: str | None) -> str:
        """The class that the request is in; `asked` is the one it names. Raises NoKey, or Refused for a class above its own."""
        if self.is_open:
            return asked or self._lowest
        self._look()
        own = None if key is None or len(key) > LONGEST_KEY else self._classes_of.get(digest_of(key))
        if own is None:
            told = "give an API key" if key is None else "this API key is not known here"
            raise NoKey(f"{told}: send it as the header X-Api-Key, or as Authorization: Bearer")
        if asked is not None and self._ranks.get(asked, -1) < self._ranks[own]:
            raise Refused(f"this API key is for class {own}: name that or a lower one, or none")
        return asked or own

    def _look(self) -> None:
        """Takes a changed file in; one that cannot be read is reported once, and what was read before holds."""
        now = self._monotonic()
        if self._file is None or now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            if _version(self._file) != self._seen:
                self._classes_of = self._read()
            self._problem = ""
        except (ForeshardError, OSError) as error:
            if str(error) != self._problem:
                self._report(f"keys are kept as they were: {error}")
            self._problem = str(error)

    def _read(self) -> dict[str, str]:
        if self._file is None:
            return dict(self._configured)
        try:
            self._seen = _version(self._file)
            lines = self._file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ForeshardError(f"gateway.keys_file {self._file} cannot be read: {error}") from None
        found = dict(self._configured)
        for number, line in enumerate(lines, 1):
            name, _, digest = line.partition("#")[0].strip().partition(" ")
            if not name:
                continue
            if name not in self._ranks or not DIGEST.fullmatch(digest.strip()):
                # The line is not repeated: it may hold a key in the clear.
                raise ForeshardError(f"gateway.keys_file {self._file} line {number} is not a class and a SHA-256 digest")
            found[digest.strip()] = name
        return found


def key_in(headers: Mapping[str, str]) -> str | None:
    """The key that a request carries, None without one."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    return headers.get("x-api-key") or (value.strip() if scheme.lower() == "bearer" and value.strip() else None)


def digest_of(key: str) -> str:
    """What settings and files hold of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _version(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size
