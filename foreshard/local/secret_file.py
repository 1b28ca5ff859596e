"""Random secrets of a local server, kept in a file that its owner alone can read."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path


def load_secrets(file: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Random secrets, made at the first start and kept, so that what Airflow encrypted stays readable."""
    from cryptography.fernet import Fernet

    if not file.exists():
        made = {name: secrets.token_urlsafe(24) for name in names} | {"fernet_key": Fernet.generate_key().decode("ascii")}
        write_private(file, made)
    loaded: dict[str, str] = json.loads(file.read_text("utf-8"))
    return loaded


def write_private(file: Path, content: dict[str, str]) -> None:
    """Replaces the file by the content as JSON, mode 0600."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
        json.dump(content, handle)
