"""What Spark's JSON reader lets pass although rows or values would be lost: found here, line by line, before it reads them.

It reads the first object of a line and forgets what follows, and it takes an object where a text belongs as that object's
own text. A pattern picks the few lines that may be so; only those are parsed.
"""

from __future__ import annotations

import json
import re

_TEXTS = ("record_id", "entity_id", "service_id", "operation_id", "query_class", "node_id", "reason")
_DOUBTFUL = re.compile(rb'\}\s*[^\s,\]}]|"(?:' + "|".join(_TEXTS).encode() + rb')"\s*:\s*[\[{]')


def problem(line: bytes) -> str | None:
    """Why a line of UTF-8 is refused, or None if it is left to the reader. Time O(length)."""
    if line.rstrip().endswith(b"}") and not _DOUBTFUL.search(line):
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return "malformed JSON"
    if not isinstance(row, dict):
        return "malformed JSON"
    for name in _TEXTS:
        if isinstance(row.get(name), (dict, list)):
            return f"{name} is not a text: {json.dumps(row[name])[:80]}"
    return None
