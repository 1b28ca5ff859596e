"""How many nodes a pool should have now, as the newest plan counts them: kept in Postgres for whoever provides nodes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from foreshard.model import NodeCount
from foreshard.placement import codec
from foreshard.routing import pool
from foreshard.settings import Settings
from foreshard.transition import store


def wanted_now(counts: Sequence[NodeCount], now: datetime) -> int | None:
    """The last count whose change must have begun by now, the first before that; None without counts. Time O(counts)."""
    wanted = None
    for count in sorted(counts, key=lambda c: c.step):
        if wanted is None or (count.start_by or count.step) <= now:
            wanted = count.nodes
    return wanted


def refresh_desired(settings: Settings, url: str, now: datetime | None = None) -> str:
    """Writes what the newest plan wants now, if it says so; one sentence if that has changed, else empty.

    Nothing in shadow mode: nodes would be started and stopped by it.
    """
    newest = store.latest_plan(url, settings.pool_id)
    if newest is None:
        return ""
    wanted = wanted_now(codec.plan_from_document(newest.document).node_counts, now or datetime.now(UTC))
    registered = pool.read_pool(url, settings.pool_id)
    before = registered.desired_nodes
    if registered.shadow_mode or wanted is None or wanted == before:
        return ""
    pool.set_desired_nodes(url, settings.pool_id, wanted)
    return f"{wanted} nodes are wanted from now on" + ("" if before is None else f", {before} were before")
