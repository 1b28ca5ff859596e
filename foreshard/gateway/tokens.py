"""Session tokens: signed, opaque names of landed files, so that a caller reads its own writes.

A token is base64url(payload) "." base64url(HMAC-SHA256 of the payload); the payload names the pool and the file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
import tempfile
from pathlib import Path

from foreshard.errors import ForeshardError, Refused

SECRET_FILE = "token.secret"
LONGEST = 4096
_SECRET_BYTES = 32


def load_secret(home: Path) -> bytes:
    """The signing secret in `home`, made on first use with mode 0600. Gateways that share it honour each other's tokens."""
    path = home / SECRET_FILE
    if not path.exists():
        _create(path)
    secret = path.read_bytes()
    if len(secret) < _SECRET_BYTES:
        raise ForeshardError(f"token secret {path} is shorter than {_SECRET_BYTES} bytes; delete it and a new one is made")
    return secret


def issue(secret: bytes, pool_id: str, file_name: str) -> str:
    """The token for a landed file; `file_name` is its path below the landing folder."""
    payload = json.dumps([pool_id, file_name], separators=(",", ":")).encode()
    return f"{_text(payload)}.{_text(_signature(secret, payload))}"


def read(secret: bytes, token: str, pool_id: str) -> str:
    """The file that the token names; raises Refused if it was not issued with this secret, or for another pool."""
    try:
        if len(token) > LONGEST:
            raise ValueError
        payload, signature = (_bytes(part) for part in token.split("."))
    except (ValueError, binascii.Error):
        raise Refused("the token is not one of this gateway's; send it exactly as it was returned by the write") from None
    if not hmac.compare_digest(signature, _signature(secret, payload)):
        raise Refused("the token's signature is wrong; send it exactly as it was returned by the write")
    issued_for, file_name = json.loads(payload)
    if issued_for != pool_id:
        raise Refused(f"the token belongs to pool {issued_for}, not {pool_id}")
    return str(file_name)


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, whole = tempfile.mkstemp(dir=path.parent, prefix="_token")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # A link fails if another process was first: then its secret holds, and nobody reads half of one.
        try:
            os.link(whole, path)
        except FileExistsError:
            return
    finally:
        os.unlink(whole)


def _signature(secret: bytes, payload: bytes) -> bytes:
    return hmac.new(secret, payload, hashlib.sha256).digest()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    # Only the canonical spelling: otherwise several texts would pass for one token.
    if _text(raw) != text:
        raise ValueError("not canonical base64url")
    return raw
