"""What gateway tests write serving tables with."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import written_copies


@pytest.fixture(scope="session")
def put_shard() -> Callable[..., None]:
    """Replaces one shard of a serving table; see written_copies.py."""
    return written_copies.put_shard
