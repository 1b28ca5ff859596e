"""A pool with an epoch, a forecast from now on, and time that can be turned back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from written_forecasts import write_forecast
from written_pools import publish_pool

from foreshard.routing import database as control_plane
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import Settings

MORE = """
[provisioner]
kind = "local"
[watch]
dead_seconds = 5
"""


@pytest.fixture
def watched(tmp_path: Path, database: str, snapshot: Snapshot) -> Settings:
    """Epoch 1: shards 0 to 3 on (a, b), (b, c), (c, a), (a, c), each forecast at 4 a second."""
    settings = publish_pool(tmp_path, database, snapshot, MORE)
    origin = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    write_forecast(settings, origin, dict.fromkeys(range(4), 4.0))
    return settings


@pytest.fixture
def earlier(database: str) -> Callable[[str, str, float], None]:
    """Sets a time of a table (`heartbeat.at`) so many seconds back, for all of its rows or for one node's."""

    def set_back(column: str, node_id: str, seconds: float) -> None:
        table, name = column.split(".")
        with control_plane.transaction(database) as cursor:
            cursor.execute(
                f"UPDATE {table} SET {name} = {name} - make_interval(secs => %s) WHERE node_id = %s", (seconds, node_id)
            )

    return set_back
