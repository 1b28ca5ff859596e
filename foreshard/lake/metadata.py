"""What a foreshard commit says of its table: a JSON object in the commit's user metadata."""

from __future__ import annotations

import json
from typing import Any


def parse_metadata(text: str | None) -> dict[str, Any]:
    """The JSON object that a foreshard commit carries; empty for commits made by others."""
    try:
        said = json.loads(text) if text else {}
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
